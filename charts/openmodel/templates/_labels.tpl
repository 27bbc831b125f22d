{{- define "openmodel.selector" -}}
app.kubernetes.io/name: openmodel-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "openmodel.router.selector" -}}
app.kubernetes.io/name: openmodel-router
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "openmodel.check.selector" -}}
app.kubernetes.io/name: openmodel-installation-check
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- /* Peers of a NetworkPolicy, and `helm test`. */ -}}
{{- define "openmodel.peers" -}}
{{ toYaml .peers }}
- podSelector:
    matchLabels: {{- include "openmodel.check.selector" .root | nindent 6 }}
{{- end }}
{{- define "openmodel.common" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: openmodel
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "openmodel.labels" -}}
{{ include "openmodel.selector" . }}
{{ include "openmodel.common" . }}
{{- end }}
{{- define "openmodel.router.labels" -}}
{{ include "openmodel.router.selector" . }}
{{ include "openmodel.common" . }}
{{- end }}
{{- define "openmodel.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- define "openmodel.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
{{- define "openmodel.spread" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 1
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- . | nindent 12 }}
{{- end }}
{{- define "openmodel.telemetry" -}}
{{- with .Values.telemetry }}
{{- if .otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .otlpEndpoint | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .sampleRatio | quote }}
{{- end }}
{{- end }}
{{- end }}
