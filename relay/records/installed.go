package records

import (
	"fmt"
	"time"

	"github.com/trainrelay/trainrelay/internal/extension"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// extension is the record as users see it, with what the cluster's agent found
// of it.
func (s *Store) extension(cluster string, now extensionRecord, revision uint64) v1.Extension {
	v := v1.Extension{
		Name: now.Name, ExtensionType: now.Type, Cluster: cluster, Revision: revision,
		Settings: now.Settings, Effective: extension.Resolve(now.Settings), Notes: extension.Notes(now.Settings),
		Version:  s.setup.presence(cluster).info.AgentVersion,
		Statuses: []v1.ExtensionStatus{},
		Created:  now.Created, Modified: now.Modified,
		SystemData: v1.SystemData{CreatedAt: now.Created, CreatedBy: now.CreatedBy, LastModifiedAt: now.Modified, LastModifiedBy: now.ModifiedBy},
	}
	if v.Settings == nil {
		v.Settings = map[string]string{}
	}
	v.Scope.Cluster.ReleaseNamespace = extension.Namespace
	v.InstallState, v.Reason = protocol.Pending, s.unlooked(cluster, now.Name)
	if found := s.setup.report(cluster).Found; found != nil && found.Extension != nil && found.Extension.Revision == revision {
		s.installed(&v, found.Extension, found.Time)
	}
	switch {
	case v.InstallState == protocol.Installed:
		v.ProvisioningState = "Succeeded"
	case v.InstallState == protocol.InstallFailed:
		v.ProvisioningState = "Failed"
		v.ErrorInfo = &v1.ErrorInfo{Code: "InstallFailed", Message: v.Reason}
	case now.Created.Equal(now.Modified):
		v.ProvisioningState = "Creating"
	default:
		v.ProvisioningState = "Updating"
	}
	return v
}

// installed takes in what the agent found at that time.
func (s *Store) installed(v *v1.Extension, found *protocol.ExtensionFound, at time.Time) {
	v.InstallState, v.Reason, v.LastStatus = found.State, found.Reason, &at
	for _, c := range found.Components {
		status := v1.ExtensionStatus{Code: c.Name, DisplayStatus: "Ready", Level: "Information", Message: c.Detail, Time: &at}
		if !c.Ready {
			status.DisplayStatus, status.Level = "NotReady", "Warning"
		}
		v.Statuses = append(v.Statuses, status)
	}
	if away := s.away(v.Cluster); away != "" && found.State != protocol.Installed {
		v.Reason = away + "; last seen: " + found.Reason
	}
}

// unlooked says why nobody has looked whether the extension is installed.
func (s *Store) unlooked(cluster, name string) string {
	apply := "to apply it, where helm reaches the cluster: " + extension.ApplyCommand(name, cluster)
	if away := s.away(cluster); away != "" {
		return away + "; " + apply
	}
	return "it is not applied, or the cluster's agent has not looked yet; " + apply
}

// away says that nothing is heard of the cluster; empty where something is.
func (s *Store) away(cluster string) string {
	_, ever := s.setup.terms.get(cluster)
	_, known := s.setup.clusters.get(cluster)
	switch {
	case !known:
		return fmt.Sprintf("cluster %s was disconnected", cluster)
	case s.setup.connected(cluster, s.opts.Now()):
		return ""
	case !ever:
		return fmt.Sprintf("cluster %s has never connected; trainrelay cluster connect --name %s --apply installs its agent", cluster, cluster)
	}
	return fmt.Sprintf("cluster %s does not respond", cluster)
}
