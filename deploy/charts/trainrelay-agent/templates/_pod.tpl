{{- /* What every pod with the agent's program is: the DaemonSet's, and the one of helm test. */ -}}
{{- define "agent.pod" -}}
serviceAccountName: {{ include "agent.name" . }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
volumes:
  # A policy that is gone keeps no agent from starting: it refuses jobs and says why.
  - name: policy
    configMap:
      name: {{ include "agent.name" . }}-policy
      optional: true
  - name: extension
    configMap:
      name: {{ include "agent.name" . }}-extension
      optional: true
  # A token is needed once; the agent waits for it, or goes on without.
  - name: join
    secret:
      secretName: {{ include "agent.name" . }}-join
      optional: true
      defaultMode: 0440
  {{- if include "agent.authorities" . }}
  - name: ca
    configMap:
      name: {{ include "agent.name" . }}-ca
  {{- end }}
{{- end }}

{{- /* Its container. Settings are variables, so that `kubectl exec … -- /trainrelay-agent check` has them too. */ -}}
{{- define "agent.container" -}}
image: {{ include "agent.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- range list
    (list "RELAY_URL" .Values.relay.url)
    (list "NATS_URL" .Values.relay.natsURL)
    (list "SECRET" (include "agent.name" .))
    (list "JOIN_TOKEN_FILE" "/etc/trainrelay/join/token")
    (list "RELAY_CA_FILE" (ternary "/etc/trainrelay/ca/relay.crt" "" (ne (trim .Values.relay.caBundle) "")))
    (list "PROXY_CA_FILE" (ternary "/etc/trainrelay/ca/proxy.crt" "" (ne (trim .Values.proxy.caBundle) "")))
    (list "NAMESPACES" (join "," .Values.computeNamespaces))
    (list "GATEWAY_LISTEN" (printf ":%v" .Values.gateway.port))
    (list "GATEWAY_URL" (include "agent.gatewayURL" .))
    (list "HEALTH_LISTEN" (printf ":%v" .Values.health.port))
    (list "LAUNCH_IMAGE" (include "agent.image" .))
    (list "POLICY_FILE" "/etc/trainrelay/policy/policy.yaml")
    (list "EXTENSION_FILE" "/etc/trainrelay/extension/extension.yaml")
    (list "IMAGE_PULL_SECRET" (include "agent.pullSecrets" .))
    (list "LOG_LEVEL" .Values.logLevel)
  }}
  {{- if last . }}
  - name: TRAINRELAY_{{ first . }}
    value: {{ last . | quote }}
  {{- end }}
  {{- end }}
  - name: TRAINRELAY_NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  - name: TRAINRELAY_POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: TRAINRELAY_POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  {{- /* Proxies come as variables from a Secret, never as arguments: a URL may hold a password. */}}
  {{- range list (list "HTTPS_PROXY" (include "agent.httpsProxyKey" .)) (list "HTTP_PROXY" (include "agent.httpProxyKey" .)) }}
  {{- if last . }}
  - name: {{ first . }}
    valueFrom:
      secretKeyRef:
        name: {{ include "agent.proxySecret" $ | quote }}
        key: {{ last . | quote }}
  {{- end }}
  {{- end }}
  {{- with .Values.proxy }}
  {{- with .noProxy }}
  - name: NO_PROXY
    value: {{ . | quote }}
  {{- end }}
  {{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: join
    mountPath: /etc/trainrelay/join
    readOnly: true
  {{- if include "agent.authorities" . }}
  - name: ca
    mountPath: /etc/trainrelay/ca
    readOnly: true
  {{- end }}
  - name: policy
    mountPath: /etc/trainrelay/policy
    readOnly: true
  - name: extension
    mountPath: /etc/trainrelay/extension
    readOnly: true
{{- end }}

{{- define "agent.pullSecrets" -}}
{{- $names := list }}
{{- range .Values.imagePullSecrets }}{{ $names = append $names .name }}{{ end }}
{{- join "," $names -}}
{{- end }}
