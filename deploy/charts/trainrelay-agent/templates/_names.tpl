{{- /* One agent serves a cluster, so names are fixed and not made from the release's. */ -}}
{{- define "agent.name" -}}trainrelay-agent{{- end }}

{{- define "agent.selector" -}}
app.kubernetes.io/name: {{ include "agent.name" . }}
{{- end }}

{{- define "agent.labels" -}}
{{ include "agent.selector" . }}
app.kubernetes.io/part-of: trainrelay
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "agent.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- define "agent.gatewayURL" -}}
http://{{ include "agent.name" . }}.{{ .Release.Namespace }}.svc:{{ .Values.gateway.port }}
{{- end }}

{{- /* The Secret with the URLs of the proxies, and its keys; empty where there is no such proxy. */ -}}
{{- define "agent.proxySecret" -}}
{{- .Values.proxy.existingSecret.name | default (printf "%s-proxy" (include "agent.name" .)) -}}
{{- end }}

{{- define "agent.httpsProxyKey" -}}
{{- with .Values.proxy }}{{ if .existingSecret.name }}{{ .existingSecret.httpsKey }}{{ else if .https }}https-proxy{{ end }}{{ end -}}
{{- end }}

{{- define "agent.httpProxyKey" -}}
{{- with .Values.proxy }}{{ if .existingSecret.name }}{{ .existingSecret.httpKey }}{{ else if .http }}http-proxy{{ end }}{{ end -}}
{{- end }}

{{- /* Not empty where authorities are given for the relay or the proxy. */ -}}
{{- define "agent.authorities" -}}
{{- if or (trim .Values.relay.caBundle) (trim .Values.proxy.caBundle) }}true{{ end -}}
{{- end }}

{{- /* What the schema cannot say: values that must be set, and which exclude each other. */ -}}
{{- define "agent.check" -}}
{{- if ne .Release.Namespace "azureml" }}
{{- fail (printf "the agent lives in the namespace azureml, not in %s: install with --namespace azureml --create-namespace" .Release.Namespace) }}
{{- end }}
{{- if not .Values.relay.url }}
{{- fail "relay.url is not set: give the relay's URL as the cluster reaches it, such as --set relay.url=https://relay.example.com:8443" }}
{{- end }}
{{- if not .Values.cluster.name }}
{{- fail "cluster.name is not set: give the name that `trainrelay cluster connect --name` was given, such as --set cluster.name=onprem-1" }}
{{- end }}
{{- if not .Values.computeNamespaces }}
{{- fail "computeNamespaces is empty, so no job could run: name the namespaces for training, such as --set computeNamespaces={train}" }}
{{- end }}
{{- with .Values.proxy }}
{{- if and .existingSecret.name (or .https .http) }}
{{- fail "proxy.existingSecret.name and proxy.https or proxy.http are both set: keep one of them" }}
{{- end }}
{{- range list (list "noProxy" .noProxy) (list "caBundle" (trim .caBundle)) }}
{{- if and (last .) (not (or $.Values.proxy.https $.Values.proxy.http $.Values.proxy.existingSecret.name)) }}
{{- fail (printf "proxy.%s is set, but no proxy is: set proxy.https or proxy.existingSecret.name" (first .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq (int .Values.gateway.port) (int .Values.health.port) }}
{{- fail "gateway.port and health.port are the same: choose two ports" }}
{{- end }}
{{- end }}
