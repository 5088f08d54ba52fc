{{/* Names, labels, and the one pod that every workload of this chart is made of. */}}

{{- define "reacquire.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 48 characters leave room for the longest suffix, "-worker-metrics". */}}
{{- define "reacquire.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "reacquire.name" . -}}
{{- (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "reacquire.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "reacquire.fullname" .) "default") .Values.serviceAccount.name -}}
{{- end -}}

{{- define "reacquire.selectorLabels" -}}
app.kubernetes.io/name: {{ include "reacquire.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "reacquire.labels" -}}
{{ include "reacquire.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: reacquire
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* (dict "root" $ "image" .Values.x.image "default" "name") -> registry/name:tag@digest */}}
{{- define "reacquire.image" -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- default .default .image.repository }}:{{ default .root.Chart.AppVersion .root.Values.image.tag -}}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "reacquire.claim" -}}
{{- default (printf "%s-blobs" (include "reacquire.fullname" .)) .Values.blobs.persistence.existingClaim -}}
{{- end -}}

{{- define "reacquire.bundlesRoot" -}}
{{- $from := list .Values.bundles.existingClaim .Values.bundles.image .Values.bundles.pull.urls | compact -}}
{{- if gt (len $from) 1 -}}
{{- fail "bundles come from one place: set one of bundles.existingClaim, bundles.image and bundles.pull.urls" -}}
{{- end -}}
{{- if $from }}/bundles{{ else }}/app/bundles{{ end -}}
{{- end -}}

{{/* (dict "name" "redis.existingSecret" "value" .Values.x.existingSecret "what" "...") -> the name of a Secret that the site made */}}
{{- define "reacquire.secretName" -}}
{{- $name := required (printf "%s is required: %s" .name .what) .value -}}
{{- if regexMatch "(?i)(^|[-_.])(change-?me|replace-?me|placeholder|todo|fixme|x{3,}|your-.*)($|[-_.])|[<>]" $name -}}
{{- fail (printf "%s is the placeholder %q: %s" .name $name .what) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/*
The confined pod of a component, without what our processes share.
  root       the chart's context
  component  name of the container and of the label app.kubernetes.io/component
  values     .Values.api, .Values.worker, ...
  image      full name of the image
  container  YAML of what only this container has: command, ports, probes
  env        YAML list of its variables
  envFrom    name of a Secret of variables, if any
  resources  its resources
  mounts     YAML list of mounts beside /tmp
  volumes    YAML list of their volumes
  initContainers  YAML list of what runs before, if any
  restart    Always (default), OnFailure or Never
  spread     whether its pods rather run on different nodes
  annotations  of the pod, beside the values' podAnnotations
*/}}
{{- define "reacquire.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "reacquire.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- with merge (dict) (default dict .annotations) .values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "reacquire.serviceAccountName" $root }}
  automountServiceAccountToken: false
  # A Service called "reacquire" would inject REACQUIRE_PORT=tcp://..., which is also the name of a setting.
  enableServiceLinks: false
  restartPolicy: {{ default "Always" .restart }}
  {{- with .runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # What the restricted Pod Security Standard asks for, here and in the container.
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ int64 $root.Values.runAs.user }}
    runAsGroup: {{ int64 $root.Values.runAs.group }}
    fsGroup: {{ int64 $root.Values.runAs.fsGroup }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  terminationGracePeriodSeconds: {{ int64 .values.terminationGracePeriodSeconds }}
  {{- with .initContainers }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ .image | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- with .env }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with .envFrom }}
      envFrom:
        - secretRef:
            name: {{ . }}
      {{- end }}
      {{- .container | nindent 6 }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: {{ .values.tmpSize }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
  {{- if .spread }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "reacquire.selectorLabels" $root | nindent 10 }}
          app.kubernetes.io/component: {{ .component }}
  {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/*
The same pod for a process of ours: it reaches Redis and the blob store, and has the bundles and, with "pacs" set, the
PACS configuration. "secrets" mounts the site's PACS secrets too.
*/}}
{{- define "reacquire.process" -}}
{{- $env := list (include "reacquire.store.env" .root) .env -}}
{{- $mounts := list (include "reacquire.store.mounts" .root) -}}
{{- $volumes := list (include "reacquire.store.volumes" .root) -}}
{{- if and .pacs .root.Values.pacs.config -}}
{{- $env = append $env (include "reacquire.pacs.env" .root) -}}
{{- $mounts = append $mounts (include "reacquire.pacs.mounts" (dict "root" .root "secrets" .secrets)) -}}
{{- $volumes = append $volumes (include "reacquire.pacs.volumes" (dict "root" .root "secrets" .secrets)) -}}
{{- $_ := set . "annotations" (dict "checksum/pacs-config" (sha256sum .root.Values.pacs.config)) -}}
{{- end -}}
{{- with .mounts }}{{ $mounts = append $mounts . }}{{ end -}}
{{- with .volumes }}{{ $volumes = append $volumes . }}{{ end -}}
{{- with .root.Values.extraEnv }}{{ $env = append $env (toYaml .) }}{{ end -}}
{{- with .root.Values.extraVolumes }}{{ $volumes = append $volumes (toYaml .) }}{{ end -}}
{{- with .root.Values.extraVolumeMounts }}{{ $mounts = append $mounts (toYaml .) }}{{ end -}}
{{- $shared := dict
  "env" ($env | compact | join "\n")
  "mounts" ($mounts | compact | join "\n")
  "volumes" ($volumes | compact | join "\n")
  "initContainers" (has .component (list "api" "worker" "worker-cpu") | ternary (include "reacquire.bundles.pull" .root) "")
  "envFrom" .root.Values.blobs.s3Secret -}}
{{- include "reacquire.pod" (merge $shared .) -}}
{{- end -}}

{{- define "reacquire.store.env" -}}
- name: REACQUIRE_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "reacquire.secretName" (dict "name" "redis.existingSecret" "value" .Values.redis.existingSecret "what" "the Secret that holds the URL of Redis") }}
      key: {{ .Values.redis.key }}
- name: REACQUIRE_BLOB_URL
  value: {{ default "file:///var/lib/reacquire/blobs" .Values.blobs.url | quote }}
- name: REACQUIRE_LOG_LEVEL
  value: {{ .Values.logLevel }}
{{- end -}}

{{- define "reacquire.store.mounts" -}}
{{- if not .Values.blobs.url }}
- name: blobs
  mountPath: /var/lib/reacquire
{{- end }}
{{- if ne (include "reacquire.bundlesRoot" .) "/app/bundles" }}
- name: bundles
  mountPath: /bundles
  readOnly: true
{{- end }}
{{- end -}}

{{- define "reacquire.store.volumes" -}}
{{- if not .Values.blobs.url }}
- name: blobs
  persistentVolumeClaim:
    claimName: {{ include "reacquire.claim" . }}
{{- end }}
{{- with .Values.bundles.existingClaim }}
- name: bundles
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- with .Values.bundles.image }}
- name: bundles
  image:
    reference: {{ . | quote }}
    pullPolicy: {{ $.Values.image.pullPolicy }}
{{- end }}
{{- if .Values.bundles.pull.urls }}
- name: bundles
  emptyDir:
    sizeLimit: {{ .Values.bundles.pull.size }}
{{- end }}
{{- end -}}

{{/* Before a process starts: bundles into its pod, each verified. A pod whose bundle is damaged or out of reach never starts. */}}
{{- define "reacquire.bundles.pull" -}}
{{- if .Values.bundles.pull.urls -}}
- name: pull-bundles
  image: {{ include "reacquire.image" (dict "root" . "image" .Values.api.image "default" "reacquire-service") | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - python
    - -m
    - service.models
    - --root
    - /bundles
    - pull
    {{- range .Values.bundles.pull.urls }}
    - {{ . | quote }}
    {{- end }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
  {{- with .Values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with (default .Values.blobs.s3Secret .Values.bundles.pull.s3Secret) }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  resources:
    requests: {cpu: 100m, memory: 128Mi}
    limits: {memory: 512Mi}
  volumeMounts:
    - name: bundles
      mountPath: /bundles
    - name: tmp
      mountPath: /tmp
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* (root, resources, gpus) -> resources with so many devices of gpu.resourceName among the limits */}}
{{- define "reacquire.device.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpus -}}
{{- $device := dict .root.Values.gpu.resourceName (int64 .gpus) -}}
{{- $_ := set $resources "limits" (merge $device (default dict $resources.limits)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Probes of a process that serves nobody: it touches a file at each heartbeat, from the moment it can work. */}}
{{- define "reacquire.beat.alive" -}}
exec:
  command:
    - python
    - -c
    - import os, sys, time; sys.exit(time.time() - os.path.getmtime(os.environ['REACQUIRE_READY_FILE']) > {{ . }})
timeoutSeconds: 5
{{- end -}}

{{- define "reacquire.beat.probes" -}}
startupProbe:
  {{- include "reacquire.beat.alive" 60 | nindent 2 }}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  {{- include "reacquire.beat.alive" 120 | nindent 2 }}
  periodSeconds: 30
readinessProbe:
  {{- include "reacquire.beat.alive" 30 | nindent 2 }}
  periodSeconds: 10
{{- end -}}

{{/* (port) -> the variables of such a process */}}
{{- define "reacquire.beat.env" -}}
- name: REACQUIRE_METRICS_HOST
  value: "0.0.0.0"
- name: REACQUIRE_METRICS_PORT
  value: {{ int64 . | quote }}
- name: REACQUIRE_READY_FILE
  value: /tmp/ready
{{- end -}}

{{- define "reacquire.metrics.port" -}}
- name: metrics
  containerPort: {{ int64 . }}
  protocol: TCP
{{- end -}}
