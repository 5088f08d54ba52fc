{{/* Names, labels, and the one pod that every Deployment of this chart is made of. */}}

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
{{- if .Values.bundles.existingClaim }}/bundles{{ else }}/app/bundles{{ end -}}
{{- end -}}

{{/*
The pod of a component.
  root       the chart's context
  component  name of the container and of the label app.kubernetes.io/component
  values     .Values.api or .Values.worker
  image      full name of the image
  container  YAML of what only this container has: ports, probes
  env        YAML list of what only this container is told
  resources  its resources
*/}}
{{- define "reacquire.pod" -}}
{{- $root := .root -}}
{{- $persistent := not $root.Values.blobs.url -}}
metadata:
  labels:
    {{- include "reacquire.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- with .values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "reacquire.serviceAccountName" $root }}
  automountServiceAccountToken: false
  # A Service called "reacquire" would inject REACQUIRE_PORT=tcp://..., which is also the name of a setting.
  enableServiceLinks: false
  {{- with .runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ int64 $root.Values.runAs.user }}
    runAsGroup: {{ int64 $root.Values.runAs.group }}
    fsGroup: {{ int64 $root.Values.runAs.fsGroup }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  terminationGracePeriodSeconds: {{ int64 .values.terminationGracePeriodSeconds }}
  containers:
    - name: {{ .component }}
      image: {{ .image | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      env:
        - name: REACQUIRE_REDIS_URL
          valueFrom:
            secretKeyRef:
              name: {{ required "redis.existingSecret is required: the Secret that holds the URL of Redis" $root.Values.redis.existingSecret }}
              key: {{ $root.Values.redis.key }}
        - name: REACQUIRE_BLOB_URL
          value: {{ default "file:///var/lib/reacquire/blobs" $root.Values.blobs.url | quote }}
        - name: REACQUIRE_LOG_LEVEL
          value: {{ $root.Values.logLevel }}
        {{- .env | nindent 8 }}
        {{- with $root.Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $root.Values.blobs.s3Secret }}
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
        {{- if $persistent }}
        - name: blobs
          mountPath: /var/lib/reacquire
        {{- end }}
        {{- if $root.Values.bundles.existingClaim }}
        - name: bundles
          mountPath: /bundles
          readOnly: true
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: {{ .values.tmpSize }}
    {{- if $persistent }}
    - name: blobs
      persistentVolumeClaim:
        claimName: {{ include "reacquire.claim" $root }}
    {{- end }}
    {{- with $root.Values.bundles.existingClaim }}
    - name: bundles
      persistentVolumeClaim:
        claimName: {{ . }}
        readOnly: true
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
