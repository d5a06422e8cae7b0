package extension

// Notes say what settings do today where that is not what their names say.
func Notes(given map[string]string) []string {
	all := Resolve(given)
	var notes []string
	if all[EnableTraining] != True {
		notes = append(notes, EnableTraining+" is "+False+": the computes of the cluster take no jobs")
	}
	driver := all[InstallBlobfuseFlexvol] == True
	if driver {
		notes = append(notes, InstallBlobfuseFlexvol+" installs the Blob CSI driver, blob.csi.azure.com: the FlexVolume driver for blobfuse is not published any more")
	}
	switch {
	case all[InstallBlobfuseSysctl] != True:
	case driver:
		notes = append(notes, InstallBlobfuseSysctl+" has the Blob CSI driver install blobfuse2 on the nodes, and raise their limit of open files")
	default:
		notes = append(notes, InstallBlobfuseSysctl+" installs nothing without "+InstallBlobfuseFlexvol+"="+True+": only the Blob CSI driver uses blobfuse")
	}
	if _, ok := given[VolumePluginDir]; ok {
		notes = append(notes, VolumePluginDir+" is kept and not used: nothing is installed there any more, and the Blob CSI driver needs no such folder")
	}
	return notes
}
