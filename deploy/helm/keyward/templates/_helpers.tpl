{{- define "keyward.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters, so that the longest suffix still fits into the 63 of a name. */}}
{{- define "keyward.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "keyward.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "keyward.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "keyward.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: keyward
{{ include "keyward.instance" . }}
{{- end -}}

{{- define "keyward.instance" -}}
app.kubernetes.io/name: {{ include "keyward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The pods that serve. The pod of the migration job has another component. */}}
{{- define "keyward.selector" -}}
{{ include "keyward.instance" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "keyward.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "keyward.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: name the account to use, or set serviceAccount.create=true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "keyward.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "keyward.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
# Makes the files of Secrets readable for the server's group, and for no others.
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "keyward.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/*
What a rendering needs. It ends with a sentence that says what to set; nothing is made up.
*/}}
{{- define "keyward.check" -}}
{{- $values := .Values -}}
{{- if not .Values.issuer -}}
{{- fail "issuer: set the URL that clients use, for example https://id.example.com" -}}
{{- end -}}
{{- if not .Values.masterKey.existingSecret -}}
{{- fail "masterKey.existingSecret: name a Secret with the master key; create it once with `openssl rand -base64 32` and back it up, the chart never makes one" -}}
{{- end -}}
{{- if not .Values.database.existingSecret -}}
{{- fail "database.existingSecret: name a Secret with the URL of PostgreSQL (postgres://USER:PASSWORD@HOST/NAME)" -}}
{{- end -}}
{{- if and .Values.redis.enabled (not .Values.redis.existingSecret) -}}
{{- fail "redis.existingSecret: name a Secret with the URL of Redis (rediss://USER:PASSWORD@HOST), or set redis.enabled=false" -}}
{{- end -}}
{{- if and .Values.migration.job (not .Values.migration.existingSecret) -}}
{{- fail "migration.existingSecret: name a Secret with the URL of PostgreSQL as the owner of the schema, or set migration.job=false" -}}
{{- end -}}
{{- range $face := list "grpc" "http" "ops" -}}
{{- $listener := index $values $face -}}
{{- if and $listener.tls.existingSecret $listener.plaintext -}}
{{- if ne $face "ops" -}}
{{- fail (printf "%s.plaintext: set either %s.tls.existingSecret or %s.plaintext=true, not both" $face $face $face) -}}
{{- end -}}
{{- else if not (or $listener.tls.existingSecret $listener.plaintext) -}}
{{- fail (printf "%s.tls.existingSecret: name a Secret of type kubernetes.io/tls, or set %s.plaintext=true if TLS ends elsewhere (a mesh or gateway)" $face $face) -}}
{{- end -}}
{{- if and $listener.tls.clientCaSecret (not $listener.tls.existingSecret) -}}
{{- fail (printf "%s.tls.clientCaSecret: client certificates need TLS: set %s.tls.existingSecret too" $face $face) -}}
{{- end -}}
{{- end -}}
{{- with .Values.metrics.serviceMonitor -}}
{{- if and .enabled $values.networkPolicy.enabled (not $values.networkPolicy.opsFrom) -}}
{{- fail "networkPolicy.opsFrom: name the peers of Prometheus, otherwise the network policy closes the port that metrics.serviceMonitor reads" -}}
{{- end -}}
{{- end -}}
{{- range $section, $settings := .Values.settings -}}
{{- $names := list $section -}}
{{- if kindIs "map" $settings -}}
{{- $names = list -}}
{{- range $name, $value := $settings -}}
{{- $names = append $names (printf "%s.%s" $section $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := $names -}}
{{- if has $name (list "issuer" "data_dir" "master_key" "master_key_file" "master_key_command" "additional_master_key" "additional_master_key_file" "additional_master_key_command" "trusted_proxies" "database.url" "redis.url" "grpc.listen" "http.listen" "ops.listen" "grpc.tls" "http.tls" "ops.tls" "grpc.plaintext" "http.plaintext" "ops.plaintext" "limits.drain_time" "limits.shutdown_grace") -}}
{{- fail (printf "settings: %s has a value of its own in this chart; set that one (see values.yaml)" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A number of a values file is a float for Helm, which would print 67108864 as 6.7108864e+07. */}}
{{- define "keyward.value" -}}
{{- if kindIs "float64" . -}}{{ . | int64 }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "keyward.env" -}}
- name: KEYWARD_ISSUER
  value: {{ .Values.issuer | quote }}
- name: KEYWARD_MASTER_KEY_FILE
  value: /etc/keyward/master-key/master.key
{{- if .Values.masterKey.additional.existingSecret }}
- name: KEYWARD_ADDITIONAL_MASTER_KEY_FILE
  value: /etc/keyward/additional-master-key/master.key
{{- end }}
- name: KEYWARD_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
{{- if .Values.redis.enabled }}
- name: KEYWARD_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret }}
      key: {{ .Values.redis.key }}
{{- end }}
# Below the volume, because the server creates it with mode 0700, and a volume is open to the group.
- name: KEYWARD_DATA_DIR
  value: /var/lib/keyward/data
{{- range $face := list "grpc" "http" "ops" }}
{{- $listener := index $.Values $face }}
- name: KEYWARD_{{ upper $face }}_LISTEN
  value: {{ printf "0.0.0.0:%d" (int $listener.port) | quote }}
{{- if $listener.tls.existingSecret }}
- name: KEYWARD_{{ upper $face }}_TLS_CERTIFICATE
  value: /etc/keyward/{{ $face }}-tls/tls.crt
- name: KEYWARD_{{ upper $face }}_TLS_KEY
  value: /etc/keyward/{{ $face }}-tls/tls.key
{{- if $listener.tls.clientCaSecret }}
- name: KEYWARD_{{ upper $face }}_TLS_CLIENT_CA
  value: /etc/keyward/{{ $face }}-client-ca/ca.crt
{{- end }}
{{- else }}
- name: KEYWARD_{{ upper $face }}_PLAINTEXT
  value: "true"
{{- end }}
{{- end }}
- name: KEYWARD_LIMITS_DRAIN_TIME
  value: {{ printf "%ds" (int .Values.drainSeconds) }}
- name: KEYWARD_LIMITS_SHUTDOWN_GRACE
  value: {{ printf "%ds" (int .Values.shutdownGraceSeconds) }}
- name: KEYWARD_TRUSTED_PROXIES
  value: {{ join ", " .Values.trustedProxies | quote }}
{{- if not (hasKey (default dict .Values.settings.telemetry) "log_format") }}
- name: KEYWARD_TELEMETRY_LOG_FORMAT
  value: json
{{- end }}
{{- if and .Values.migration.job (not (hasKey (default dict .Values.settings.database) "migrate")) }}
# The job migrates. A server that starts before it has finished waits, and is not ready.
- name: KEYWARD_DATABASE_MIGRATE
  value: wait
{{- end }}
{{- range $section, $settings := .Values.settings }}
{{- if kindIs "map" $settings }}
{{- range $name, $value := $settings }}
- name: KEYWARD_{{ upper $section }}_{{ upper $name }}
  value: {{ include "keyward.value" $value | quote }}
{{- end }}
{{- else }}
- name: KEYWARD_{{ upper $section }}
  value: {{ include "keyward.value" $settings | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
