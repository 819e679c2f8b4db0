# Shared by the commands in this folder: where the project is, and its Debian packages.
# Sourced by bash, never run.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# The one name a person should see in messages: how the command was called.
command_name=deploy/$(basename "$0")

say() { printf '%s: %s\n' "$command_name" "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

# packages_missing USE...: prints the listed packages that are not installed.
packages_missing() {
    local use name rest wanted
    while read -r use name rest; do
        for wanted in "$@"; do
            [ "$use" = "$wanted" ] || continue
            [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
        done
    done <"$project/deploy/packages"
}

# packages_ensure USE...: installs what is missing, and says what to do where it cannot.
packages_ensure() {
    local missing as_root=()
    command -v dpkg-query >/dev/null || fail "this needs Debian 12 (no dpkg-query here)"
    mapfile -t missing < <(packages_missing "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing: ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            fail "missing packages and neither root nor sudo; as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -q >&2 || fail "apt-get update failed; is there a network?"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}" >&2 ||
        fail "apt-get could not install: ${missing[*]}"
    mapfile -t missing < <(packages_missing "$@")
    [ ${#missing[@]} -eq 0 ] || fail "still missing after apt-get install: ${missing[*]}"
}

# build_preset PRESET [TARGET...]: configures and builds in build/PRESET; progress goes to stderr.
build_preset() {
    local preset=$1
    shift
    (
        cd "$project"
        cmake --preset "$preset" >"build/$preset.configure.log" 2>&1 ||
            { cat "build/$preset.configure.log" >&2; exit 1; }
        cmake --build --preset "$preset" --parallel "$(nproc)" ${1:+--target "$@"} >&2
    )
}
