#!/bin/sh
# Installs libweir from a build folder to a fresh prefix and uses it as others would: the header alone in C and C++, a
# program by pkg-config (shared and static) and by CMake, each of which runs; nothing but weir_* is exported.
# Usage: install_test.sh BUILD_FOLDER
set -eu
build=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR='' cmake --install "$build" --prefix "$root/prefix" > "$root/install.log"
library=$(dirname "$(find "$root/prefix" -name libweir.a)")

cat > "$root/main.c" <<'EOF'
#include <weir.h>
#include <stdio.h>
int main(void)
{
    struct weir_options options = {.url = "tcp://127.0.0.1:1", .connect_timeout_ms = 5000, .reconnect_never = true};
    struct weir *client = NULL;
    const char *reason = "";
    if (weir_open(&options, &client, &reason) == WEIR_OK)
        return 1;
    printf("%s: %s\n", weir_version(), reason);
    return 0;
}
EOF
printf '#include "weir.h"\n' > "$root/alone.c"
printf '#include "weir.h"\nint main() { return weir_version() == nullptr; }\n' > "$root/alone.cc"
printf '#include "weir_error.h"\n' > "$root/error.c"

fail() { echo "install: $1" >&2; exit 1; }
runs() { "$1" | grep -q '^[0-9]*\.[0-9]*\.[0-9]*: .' || fail "$1 does not run"; }

strict='-Wall -Wextra -Wpedantic -Werror -Wstrict-prototypes'
cc -std=c11 $strict -I"$root/prefix/include" -fsyntax-only "$root/alone.c"
cc -std=c11 $strict -I"$root/prefix/include" -fsyntax-only "$root/error.c"
if command -v c++ > /dev/null; then
    c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -I"$root/prefix/include" -fsyntax-only "$root/alone.cc"
fi

foreign=$(nm -D --defined-only "$library/libweir.so" | awk 'NF == 3 { print $3 }' | grep -v '^weir_' || true)
[ -z "$foreign" ] || fail "libweir.so exports $foreign"
foreign=$(nm -g --defined-only "$library/libweir.a" | awk 'NF == 3 { print $3 }' | grep -v '^weir_' || true)
[ -z "$foreign" ] || fail "libweir.a exports $foreign"

PKG_CONFIG_PATH=$library/pkgconfig
export PKG_CONFIG_PATH
cc "$root/main.c" -o "$root/shared" $(pkg-config --cflags --libs weir) -Wl,-rpath,"$library"
runs "$root/shared"
cc "$root/main.c" -o "$root/static" $(pkg-config --cflags weir) "$library/libweir.a" \
    $(pkg-config --static --libs weir | sed 's/-lweir//')
runs "$root/static"
if ldd "$root/static" | grep -q libweir; then fail "the static program needs libweir.so"; fi

mkdir "$root/project"
cp "$root/main.c" "$root/project"
cat > "$root/project/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.21)
project(user LANGUAGES C)
find_package(weir 0.1 CONFIG REQUIRED)
foreach(kind shared static)
  add_executable(by_${kind} main.c)
  target_link_libraries(by_${kind} PRIVATE weir::${kind})
endforeach()
EOF
cmake -S "$root/project" -B "$root/project/build" -DCMAKE_PREFIX_PATH="$root/prefix" > "$root/cmake.log" 2>&1 ||
    { cat "$root/cmake.log" >&2; fail "find_package(weir) fails"; }
cmake --build "$root/project/build" > "$root/cmake.log" 2>&1 || { cat "$root/cmake.log" >&2; fail "the project fails"; }
runs "$root/project/build/by_shared"
runs "$root/project/build/by_static"
echo "install: fine"
