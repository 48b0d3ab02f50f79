{{/* What the templates share: names, labels, the pod, and the checks of values that a schema cannot express. */}}

{{- define "hansard.name" -}}
{{- if contains "hansard" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-hansard" (.Release.Name | trunc 32 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "hansard.selector" -}}
app.kubernetes.io/name: hansard
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hansard.labels" -}}
{{ include "hansard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "hansard.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Every job runs somewhere, notify only where somebody is to be told; the gateway, which the Service finds, in one process.
Each secret that a running job cannot do without is set. */}}
{{- define "hansard.check" -}}
{{- $all := list "gateway" "split" "transcribe" "aggregate" "merge" "summarize" "sweep" }}
{{- $running := list }}
{{- range $process, $of := .Values.jobs }}
  {{- range $of.run }}{{ $running = append $running . }}{{ end }}
  {{- if and $.Values.keda.enabled (dig "scale" "age" 0 $of) (not $.Values.keda.prometheusAddress) }}
    {{- fail (printf "jobs.%s scales by age: set keda.prometheusAddress, or scale by lag" $process) }}
  {{- end }}
{{- end }}
{{- range $all }}
  {{- if not (has . $running) }}{{ fail (printf "no process runs the job %s: add it to `run` of one of jobs" .) }}{{ end }}
{{- end }}
{{- $others := without $running "gateway" }}
{{- if gt (sub (len $running) (len $others)) 1 }}{{ fail "several of jobs run gateway: only one may" }}{{ end }}
{{- range list "kafka.brokers" "store.nodes" "s3.bucket" }}
  {{- if not (index $.Values.settings .) }}{{ fail (printf "settings: %s is not set" .) }}{{ end }}
{{- end }}
{{- $needed := list "keys" "run.signing-key" "s3.access-key" "s3.secret-key" }}
{{- if has "notify" $running }}{{ $needed = append $needed "webhook.secret" }}{{ end }}
{{- range $needed }}
  {{- if not (index $.Values.secrets .) }}{{ fail (printf "secrets: %s is not set; name an existing Secret and its key" .) }}{{ end }}
{{- end }}
{{- end }}

{{- define "hansard.toml" -}}
# Made by the chart from its values.
drain = "{{ .Values.drainSeconds }} s"
run.listen = "0.0.0.0:8080"
run.admin-listen = "0.0.0.0:8081"
log.format = "json"
{{- range $key, $value := .Values.settings }}
{{ $key }} = {{ if kindIs "float64" $value }}{{ int64 $value }}{{ else if kindIs "string" $value }}{{ toJson $value }}{{ else }}{{ $value }}{{ end }}
{{- end }}
{{- end }}

{{- define "hansard.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "hansard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The secrets of a pod, as JSON: callers' keys are the gateway's alone; what signs tokens too, unless transcribe signs the
URLs that providers call; what signs webhooks is notify's. Takes the root and the pod's jobs. */}}
{{- define "hansard.secrets" -}}
{{- $secrets := .root.Values.secrets }}
{{- if not (has "gateway" .run) }}{{ $secrets = omit $secrets "keys" }}{{ end }}
{{- $signs := or (has "gateway" .run) (and (has "transcribe" .run) (index .root.Values.settings "speech.callback-url")) }}
{{- if not $signs }}{{ $secrets = omit $secrets "run.signing-key" }}{{ end }}
{{- if not (has "notify" .run) }}{{ $secrets = omit $secrets "webhook.secret" }}{{ end }}
{{- if not (has "summarize" .run) }}{{ $secrets = omit $secrets "summary.key" }}{{ end }}
{{- toJson $secrets }}
{{- end }}

{{/* The environment of a container: the file with settings, and the files with secrets, whose names are what the settings
of authorities and of rules want; takes what hansard.secrets takes. */}}
{{- define "hansard.environment" -}}
- {name: HANSARD_CONFIG, value: /etc/hansard/settings/hansard.toml}
- {name: TMPDIR, value: /tmp}
{{- range $setting, $_ := include "hansard.secrets" . | fromJson }}
- {name: HANSARD_{{ $setting | upper | replace "." "_" | replace "-" "_" }}{{ if not (or (hasSuffix ".ca" $setting) (eq "speech.redaction-rules" $setting)) }}_FILE{{ end }}, value: /etc/hansard/secrets/{{ $setting }}}
{{- end }}
{{- end }}

{{- define "hansard.mounts" -}}
- {name: settings, mountPath: /etc/hansard/settings, readOnly: true}
- {name: secrets, mountPath: /etc/hansard/secrets, readOnly: true}
- {name: temporary, mountPath: /tmp}
{{- end }}

{{/* The volumes of a pod; takes what hansard.secrets takes, and the name of the ConfigMap. */}}
{{- define "hansard.volumes" -}}
- name: settings
  configMap: {name: {{ .config }}}
- name: secrets
  projected:
    # The pod's group may read them.
    defaultMode: 0440
    sources:
      {{- range $setting, $from := include "hansard.secrets" . | fromJson }}
      - secret: {name: {{ $from.name | quote }}, items: [{key: {{ $from.key | quote }}, path: {{ $setting }}}]}
      {{- end }}
- name: temporary
  emptyDir: {sizeLimit: {{ .root.Values.pod.temporarySize }}}
{{- end }}

{{/* Where pods may run, and their images' Secrets. */}}
{{- define "hansard.placing" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.pod.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.pod.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* A pod that runs one command to its end; takes the root, the ConfigMap and the command's words. */}}
{{- define "hansard.once" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "hansard.podSecurity" .root | nindent 2 }}
{{- include "hansard.placing" .root }}
containers:
  - name: hansard
    image: {{ include "hansard.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: {{ toJson .args }}
    env:
      {{- include "hansard.environment" . | nindent 6 }}
    resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 256Mi}}
    securityContext:
      {{- include "hansard.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      {{- include "hansard.mounts" .root | nindent 6 }}
volumes:
  {{- include "hansard.volumes" . | nindent 2 }}
{{- end }}
