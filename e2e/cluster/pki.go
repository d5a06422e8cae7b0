package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// authority issues the cluster's certificates into a folder.
type authority struct {
	dir         string
	server      string // URL of the API server, for kubeconfigs
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// writePKI makes everything that the components authenticate with.
func writePKI(dir, server string, serverIPs []net.IP, nodes []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(dir, server)
	if err != nil {
		return err
	}
	if err := ca.issueServer("apiserver", serverIPs); err != nil {
		return err
	}
	users := map[string]pkix.Name{
		"admin":              {CommonName: "admin", Organization: []string{"system:masters"}},
		"kubelet-client":     {CommonName: "apiserver-kubelet-client", Organization: []string{"system:masters"}},
		"aggregator":         {CommonName: "aggregator"},
		"controller-manager": {CommonName: "system:kube-controller-manager"},
		"scheduler":          {CommonName: "system:kube-scheduler"},
		"proxy":              {CommonName: "system:kube-proxy"},
		"coredns":            {CommonName: dnsUser},
	}
	for _, node := range nodes {
		users[node] = pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
	}
	for name, subject := range users {
		if err := ca.issueUser(name, subject); err != nil {
			return err
		}
	}
	return writeServiceAccountKey(dir)
}

func newAuthority(dir, server string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &authority{dir: dir, server: server, key: key}
	ca.certificate = &x509.Certificate{
		Subject:               pkix.Name{CommonName: "cluster authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	return ca, ca.sign("ca", ca.certificate, key)
}

// issueServer makes the API server's serving certificate.
func (ca *authority) issueServer(name string, ips []net.IP) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	service := "kubernetes.default.svc"
	return ca.sign(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: ips,
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", service, service + ".cluster.local"},
	}, key)
}

// issueUser makes a client certificate and a kubeconfig with it.
func (ca *authority) issueUser(name string, subject pkix.Name) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := ca.sign(name, &x509.Certificate{
		Subject:     subject,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key); err != nil {
		return err
	}
	var pems [3][]byte
	for i, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		if pems[i], err = os.ReadFile(filepath.Join(ca.dir, file)); err != nil {
			return err
		}
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["site"] = &clientcmdapi.Cluster{Server: ca.server, CertificateAuthorityData: pems[0]}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: pems[1], ClientKeyData: pems[2]}
	config.Contexts["site"] = &clientcmdapi.Context{Cluster: "site", AuthInfo: name}
	config.CurrentContext = "site"
	return clientcmd.WriteToFile(*config, filepath.Join(ca.dir, name+".kubeconfig"))
}

// sign completes a certificate and writes it and its key.
func (ca *authority) sign(name string, c *x509.Certificate, key *ecdsa.PrivateKey) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	c.SerialNumber = serial
	c.NotBefore = time.Now().Add(-time.Hour)
	c.NotAfter = time.Now().AddDate(10, 0, 0)
	der, err := x509.CreateCertificate(rand.Reader, c, ca.certificate, key.Public(), ca.key)
	if err != nil {
		return fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	if err := writePEM(filepath.Join(ca.dir, name+".crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(filepath.Join(ca.dir, name+".key"), key)
}

// writeServiceAccountKey makes the pair that signs and checks service account
// tokens.
func writeServiceAccountKey(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "sa.pub"), "PUBLIC KEY", der); err != nil {
		return err
	}
	return writeKey(filepath.Join(dir, "sa.key"), key)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, "EC PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
