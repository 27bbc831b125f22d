# shellcheck shell=bash
# Starting, finding and ending the cluster's processes.

LOGS=$STATE/logs
PIDS=$RUN/pids
# Every process started here, and what it starts on the host, carries this in its environment.
MARK=OPENMODEL_CLUSTER_STATE=$STATE

# When a process began, in clock ticks: a pid may be given out again, pid and beginning never are.
began() {
  # The name in field 2 may hold spaces; field 22 is the 20th after its closing parenthesis.
  sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

# Prints the component's pid if that very process is alive.
running_pid() {
  local pid ticks
  [ -r "$PIDS/$1" ] || return 1
  read -r pid ticks <"$PIDS/$1"
  [ -n "$ticks" ] && [ "$(began "$pid")" = "$ticks" ] && ! is_zombie "$pid" || return 1
  printf '%s\n' "$pid"
}

# Dead, but not waited for. A killed process whose other threads still end looks like it too, and holds its ports.
is_zombie() {
  [ "$(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1)" = Z ] &&
    [ "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -le 1 ]
}

start_component() {
  local name=$1 pid
  local -a COMMAND
  component_command "$name"
  mkdir -p "$LOGS" "$PIDS"
  # 9 is the lock of the calling script: a component that inherited it would hold it for ever.
  env "$MARK" setsid "${COMMAND[@]}" </dev/null >>"$LOGS/$name.log" 2>&1 9>&- &
  pid=$!
  printf '%s %s\n' "$pid" "$(began "$pid")" >"$PIDS/$name"
}

wait_for() {
  local seconds=$1 what=$2 deadline=$((SECONDS + $1))
  shift 2
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "$what was not ready after $seconds s"
    sleep 0.1
  done
}

wait_ready() {
  local name=$1 deadline=$((SECONDS + 60))
  until component_ready "$name"; do
    if ! running_pid "$name" >/dev/null || [ $SECONDS -ge $deadline ]; then
      tail -n 15 "$LOGS/$name.log" >&2
      fail "$name did not become ready; its log is $LOGS/$name.log"
    fi
    sleep 0.1
  done
}

stop_component() {
  local name=$1 signal=$2 pid
  pid=$(running_pid "$name") || return 0
  kill "-$signal" "$pid" 2>/dev/null || true
  # The API server waits for open watches for a minute; nothing here needs that.
  local deadline=$((SECONDS + 5))
  while running_pid "$name" >/dev/null; do
    [ $SECONDS -lt $deadline ] || kill -KILL "$pid" 2>/dev/null || true
    sleep 0.1
  done
}

# The processes on the host, by their mark, and those in pods, by their control group.
cluster_pids() {
  {
    # Processes that end meanwhile make both complain; that is no failure.
    grep -lzxF "$MARK" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 || true
    find /sys/fs/cgroup -path "*/$CGROUP/*" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  } | sort -un
}

end_all_processes() {
  local name pid deadline
  local -a left
  # An orderly end first, in reverse order: the kubelet before containerd, the API before etcd.
  for ((i = ${#COMPONENTS[@]} - 1; i >= 0; i--)); do
    name=${COMPONENTS[i]}
    if pid=$(running_pid "$name"); then kill -TERM "$pid" 2>/dev/null || true; fi
  done
  deadline=$((SECONDS + 3))
  while [ $SECONDS -lt $deadline ] && any_component_runs; do sleep 0.1; done

  deadline=$((SECONDS + 20))
  while mapfile -t left < <(cluster_pids) && [ ${#left[@]} -gt 0 ]; do
    [ $SECONDS -lt $deadline ] || fail "processes that do not end: ${left[*]}"
    kill -KILL "${left[@]}" 2>/dev/null || true
    sleep 0.1
  done
}

any_component_runs() {
  local name
  for name in "${COMPONENTS[@]}"; do
    ! running_pid "$name" >/dev/null || return 0
  done
  return 1
}

all_components_run() {
  local name
  for name in "${COMPONENTS[@]}"; do
    running_pid "$name" >/dev/null || return 1
  done
}
