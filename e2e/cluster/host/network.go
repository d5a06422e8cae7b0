package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// namespaces is where named network namespaces are found.
const namespaces = "/run/netns"

// Leg is one network interface of a network namespace: a cable to a bridge.
type Leg struct {
	Namespace string       // from AddNamespace
	Interface string       // its name in there, such as eth0
	Bridge    string       // from AddBridge
	Address   netip.Prefix // address and network, such as 10.88.0.3/24
	Routes    []Route      // through this leg
}

// Route leads to a network through a neighbour.
type Route struct {
	To  netip.Prefix // the zero Prefix is the default route
	Via netip.Addr
}

// AddBridge makes a bridge, on which this machine itself has the address. The
// name, at most 15 letters, must be free.
func (h *Host) AddBridge(name string, address netip.Prefix) error {
	if err := h.claimDevice(name); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := h.addDevice(bridge); err != nil {
		return fmt.Errorf("make bridge %s: %w", name, err)
	}
	if err := netlink.AddrAdd(bridge, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("give bridge %s the address %s: %w", name, address, err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bring bridge %s up: %w", name, err)
	}
	return nil
}

// AddNamespace makes a named network namespace with nothing but a loopback
// interface. Processes are started in it with Space{Net: name}.
func (h *Host) AddNamespace(name string) error {
	file := filepath.Join(namespaces, name)
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network namespace %s exists already (%s)", name, file)
	}
	if err := h.MkdirAll(namespaces); err != nil {
		return err
	}
	if err := h.journal.add(entry{Kind: madeNamespace, Name: name}); err != nil {
		return err
	}
	made := make(chan error, 1)
	onThread(func() {
		ns, err := netns.NewNamed(name)
		if err == nil {
			err = ns.Close()
		}
		made <- err
	})
	if err := <-made; err != nil {
		return fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return inside(name, func(ns *netlink.Handle) error { return setUp(ns, "lo") })
}

// AddLeg connects a network namespace to a bridge.
func (h *Host) AddLeg(leg Leg) error {
	bridge, err := netlink.LinkByName(leg.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", leg.Bridge, err)
	}
	ns, err := netns.GetFromName(leg.Namespace)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", leg.Namespace, err)
	}
	defer ns.Close()

	// The near end needs a name that nobody else uses; the far end's is its own.
	near := fmt.Sprintf("tr%s", leg.Address.Addr().Unmap().String())
	if len(near) > 15 {
		near = fmt.Sprintf("tr%x", leg.Address.Addr().AsSlice())
	}
	if err := h.claimDevice(near); err != nil {
		return err
	}
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: near, MasterIndex: bridge.Attrs().Index},
		PeerName:      leg.Interface,
		PeerNamespace: netlink.NsFd(ns),
	}
	if err := h.addDevice(cable); err != nil {
		return fmt.Errorf("connect %s to bridge %s: %w", leg.Namespace, leg.Bridge, err)
	}
	if err := netlink.LinkSetUp(cable); err != nil {
		return fmt.Errorf("bring %s up: %w", near, err)
	}
	return inside(leg.Namespace, func(ns *netlink.Handle) error { return leg.configure(ns) })
}

func (leg Leg) configure(ns *netlink.Handle) error {
	link, err := ns.LinkByName(leg.Interface)
	if err != nil {
		return err
	}
	if err := ns.AddrAdd(link, &netlink.Addr{IPNet: ipNet(leg.Address)}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", leg.Interface, leg.Address, err)
	}
	if err := ns.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", leg.Interface, err)
	}
	for _, route := range leg.Routes {
		if err := ns.RouteAdd(route.netlink()); err != nil {
			return fmt.Errorf("route to %s via %s: %w", route.To, route.Via, err)
		}
	}
	return nil
}

// AddRoute adds a route of this machine itself, through a bridge of the host;
// it goes when the bridge goes.
func (h *Host) AddRoute(route Route) error {
	if err := netlink.RouteAdd(route.netlink()); err != nil {
		return fmt.Errorf("route to %s via %s: %w", route.To, route.Via, err)
	}
	return nil
}

func (r Route) netlink() *netlink.Route {
	if !r.To.IsValid() {
		return &netlink.Route{Gw: r.Via.AsSlice()}
	}
	return &netlink.Route{Dst: ipNet(r.To), Gw: r.Via.AsSlice()}
}

// claimDevice records a device that is about to be made. A device of that name
// that is there already is somebody else's.
func (h *Host) claimDevice(name string) error {
	if link, err := netlink.LinkByName(name); err == nil {
		owner := "somebody else's"
		if alias := link.Attrs().Alias; alias != "" {
			owner = "of the cluster in " + alias + ": take that down first"
		}
		return fmt.Errorf("network device %s exists already, %s", name, owner)
	}
	return h.journal.add(entry{Kind: madeDevice, Name: name})
}

// addDevice makes a device and writes on it whose it is.
func (h *Host) addDevice(device netlink.Link) error {
	if err := netlink.LinkAdd(device); err != nil {
		return err
	}
	return netlink.LinkSetAlias(device, h.dir)
}

// inside configures a network namespace.
func inside(namespace string, configure func(*netlink.Handle) error) error {
	ns, err := netns.GetFromName(namespace)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", namespace, err)
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", namespace, err)
	}
	defer handle.Close()
	if err := configure(handle); err != nil {
		return fmt.Errorf("network namespace %s: %w", namespace, err)
	}
	return nil
}

func setUp(ns *netlink.Handle, name string) error {
	link, err := ns.LinkByName(name)
	if err != nil {
		return err
	}
	return ns.LinkSetUp(link)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
