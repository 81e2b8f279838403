#!/usr/bin/env bash
# Waits for the notice that this spot machine will be taken away, and has Ray drain the node: the
# training on it then makes a checkpoint first.
#   spot-notice.sh aws|gcp HEAD:PORT
# Runs beside `ray start` on a worker. RAY_AUTH_MODE and the token are the node's.
set -euo pipefail
cloud=$1
head=$2
every=${SPOT_NOTICE_SECONDS:-2}

# What the machine is told by its cloud; empty while it may stay.
case $cloud in
  aws)
    base=${SPOT_NOTICE_URL:-http://169.254.169.254}
    seconds_left=110 # of two minutes
    notice() {
      local token
      token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$base/latest/api/token")
      curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" "$base/latest/meta-data/spot/instance-action"
    }
    ;;
  gcp)
    base=${SPOT_NOTICE_URL:-http://metadata.google.internal}
    seconds_left=25 # of half a minute
    notice() {
      curl -sf -m 2 -H 'Metadata-Flavor: Google' "$base/computeMetadata/v1/instance/preempted" | grep -x TRUE
    }
    ;;
  *)
    echo "usage: $0 aws|gcp HEAD:PORT" >&2
    exit 2
    ;;
esac

until told=$(notice); do
  sleep "$every"
done
echo "$(date -u +%FT%TZ) the machine will be taken: $told"
RAY_ADDRESS=$head ray drain-node --address "$head" --reason DRAIN_NODE_REASON_PREEMPTION \
  --reason-message "spot notice: $told" --deadline-remaining-seconds "$seconds_left"
