package v1

import (
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// Extension is the extension of a cluster. Its field names are those that
// scripts written for "az k8s-extension show" expect; what only Azure has is
// not there.
type Extension struct {
	Name          string `json:"name"`
	ExtensionType string `json:"extensionType" doc:"always Microsoft.AzureML.Kubernetes"`
	Cluster       string `json:"clusterName"`

	InstallState protocol.InstallState `json:"installState" enum:"Pending,Installed,Failed"`
	// Reason is a field of ours: az says nothing of what an installation waits
	// for.
	Reason            string     `json:"installStateReason,omitempty" doc:"what the state waits for or failed for, with the command that helps"`
	ProvisioningState string     `json:"provisioningState" enum:"Creating,Updating,Succeeded,Failed" doc:"the install state in the words of Azure's resources"`
	ErrorInfo         *ErrorInfo `json:"errorInfo" doc:"null unless Failed"`

	Settings  map[string]string `json:"configurationSettings" doc:"those that were given"`
	Effective map[string]string `json:"effectiveSettings" doc:"all that hold, defaults included"`

	// Notes are a field of ours, too.
	Notes []string `json:"notes,omitempty" doc:"what settings do today where their names say something else"`

	Scope       ExtensionScope `json:"scope"`
	Version     string         `json:"version,omitempty" doc:"of the cluster's agent"`
	AutoUpgrade bool           `json:"autoUpgradeMinorVersion" doc:"always false: an admin upgrades the chart"`
	// Statuses are those of the components.
	Statuses []ExtensionStatus `json:"statuses"`

	Created    time.Time  `json:"creationTime"`
	Modified   time.Time  `json:"lastModifiedTime"`
	LastStatus *time.Time `json:"lastStatusTime" doc:"when the cluster's agent looked last"`
	SystemData SystemData `json:"systemData"`
	// Revision is another one after each change.
	Revision uint64 `json:"revision"`
}

// ErrorInfo is why an extension has Failed.
type ErrorInfo struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// ExtensionScope is where an extension is installed.
type ExtensionScope struct {
	Cluster struct {
		ReleaseNamespace string `json:"releaseNamespace"`
	} `json:"cluster"`
}

// ExtensionStatus is a component of an extension.
type ExtensionStatus struct {
	Code          string     `json:"code" doc:"the component"`
	DisplayStatus string     `json:"displayStatus" enum:"Ready,NotReady"`
	Level         string     `json:"level" enum:"Information,Warning"`
	Message       string     `json:"message,omitempty"`
	Time          *time.Time `json:"time,omitempty"`
}

// SystemData says who made a thing and who changed it last.
type SystemData struct {
	CreatedAt      time.Time `json:"createdAt"`
	CreatedBy      string    `json:"createdBy,omitempty"`
	LastModifiedAt time.Time `json:"lastModifiedAt"`
	LastModifiedBy string    `json:"lastModifiedBy,omitempty"`
}

// ExtensionSettings is the body of putting an extension.
type ExtensionSettings struct {
	ExtensionType string            `json:"extensionType,omitempty" doc:"Microsoft.AzureML.Kubernetes, in any case"`
	Settings      map[string]string `json:"configurationSettings,omitempty" doc:"all that are not the default; what was there goes"`
	Revision      uint64            `json:"revision,omitempty" doc:"put only over this revision; 0 for whatever is there"`
}

// ExtensionList holds all extensions of a cluster.
type ExtensionList struct {
	Value []Extension `json:"value"`
}
