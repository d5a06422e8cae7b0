{{- /*
The settings of the extension that hold, in the words of the relay: what is not
given has the same default as in internal/extension. JSON; {} without the extension.
*/ -}}
{{- define "extension.settings" -}}
{{- $all := dict }}
{{- with .Values.extension }}
{{- $given := . }}
{{- $training := default false .enableTraining }}
{{- range $key, $default := dict "enableTraining" false "logAnalyticsWS" false "installNvidiaDevicePlugin" true "installBlobfuseSysctl" $training "installBlobfuseFlexvol" $training }}
{{- $_ := set $all $key (ternary "True" "False" (ternary (get $given $key) $default (hasKey $given $key))) }}
{{- end }}
{{- $_ := set $all "volumePluginDir" (default "/etc/kubernetes/volumeplugins" .volumePluginDir) }}
{{- with .imageMirror }}
{{- $_ := set $all "imageMirror" . }}
{{- end }}
{{- range $key, $value := include "extension.labels" $ | fromJson }}
{{- $_ := set $all (printf "nodeSelector.%s" $key) $value }}
{{- end }}
{{- end }}
{{- toJson $all }}
{{- end }}

{{- /* The labels of nodes for its components. JSON. */ -}}
{{- define "extension.labels" -}}
{{- $labels := dict }}
{{- range (default dict .Values.extension).nodeSelector }}
{{- $pair := splitn "=" 2 . }}
{{- $_ := set $labels $pair._0 $pair._1 }}
{{- end }}
{{- toJson $labels }}
{{- end }}

{{- define "extension.nodeSelector" -}}
{{- toYaml (merge (include "extension.labels" . | fromJson) (dict "kubernetes.io/os" "linux")) }}
{{- end }}

{{- /* Not empty for an object of this release: a list of the root and the object. */ -}}
{{- define "extension.own" -}}
{{- $root := first . }}
{{- $by := dig "metadata" "annotations" dict (last .) }}
{{- if and (eq $root.Release.Name (default "" (get $by "meta.helm.sh/release-name"))) (eq $root.Release.Namespace (default "" (get $by "meta.helm.sh/release-namespace"))) }}true{{ end -}}
{{- end }}

{{- /*
NAMESPACE/NAME of a DaemonSet that is NVIDIA's device plugin and not of this
release, whatever it is called: its image says so. Empty for none, and where
helm does not ask the cluster.
*/ -}}
{{- define "extension.foreignPlugin" -}}
{{- $found := "" }}
{{- range (lookup "apps/v1" "DaemonSet" "" "").items }}
{{- $daemon := . }}
{{- range dig "spec" "template" "spec" "containers" list $daemon }}
{{- $image := default "" .image }}
{{- if and (not $found) (or (contains "k8s-device-plugin" $image) (contains "nvidia-gpu-device-plugin" $image)) (not (contains "rocm/" $image)) (not (include "extension.own" (list $ $daemon))) }}
{{- $found = printf "%s/%s" $daemon.metadata.namespace $daemon.metadata.name }}
{{- end }}
{{- end }}
{{- end }}
{{- $found -}}
{{- end }}

{{- /* The name of a Blob CSI driver that is there and not of this release. */ -}}
{{- define "extension.foreignDriver" -}}
{{- with lookup "storage.k8s.io/v1" "CSIDriver" "" "blob.csi.azure.com" }}
{{- if not (include "extension.own" (list $ .)) }}{{ .metadata.name }}{{ end -}}
{{- end -}}
{{- end }}

{{- /* Not empty where the component is to be installed. */ -}}
{{- define "extension.nvidia" -}}
{{- if eq "True" (default "" (include "extension.settings" . | fromJson).installNvidiaDevicePlugin) }}
{{- if not (include "extension.foreignPlugin" .) }}true{{ end -}}
{{- end -}}
{{- end }}

{{- define "extension.blob" -}}
{{- if eq "True" (default "" (include "extension.settings" . | fromJson).installBlobfuseFlexvol) }}
{{- if not (include "extension.foreignDriver" .) }}true{{ end -}}
{{- end -}}
{{- end }}

{{- /* Not empty where the Blob CSI driver is to install blobfuse2 on the nodes. */ -}}
{{- define "extension.blobfuse" -}}
{{- if eq "True" (default "" (include "extension.settings" . | fromJson).installBlobfuseSysctl) }}true{{ end -}}
{{- end }}

{{- /* An image of a component, from the mirror if there is one: a list of the root, the registry, and the rest. */ -}}
{{- define "extension.image" -}}
{{- default (index . 1) (default dict (first .).Values.extension).imageMirror }}/{{ last . }}
{{- end }}

{{- /* Labels of a component: a list of the root and its name. */ -}}
{{- define "extension.componentLabels" -}}
app.kubernetes.io/name: {{ last . }}
app.kubernetes.io/part-of: trainrelay
app.kubernetes.io/managed-by: {{ (first .).Release.Service }}
{{- end }}
