#!/bin/sh
# Installs libweir from a build folder to a fresh prefix and uses it as others would: the header alone in C and C++, a
# program by pkg-config (shared and static) and by CMake, each of which runs; nothing but weir_* is exported. The same
# for plugins: what `weir plugin new` writes is built with the installed header and passes its own test.
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
printf '#include "weir_actor.h"\n' > "$root/actor.c"
printf '#include "weir_actor.h"\nint main() { return sizeof(weir_actor_plugin) == 0; }\n' > "$root/actor.cc"

fail() { echo "install: $1" >&2; exit 1; }
runs() { "$1" | grep -q '^[0-9]*\.[0-9]*\.[0-9]*: .' || fail "$1 does not run"; }

strict='-Wall -Wextra -Wpedantic -Werror -Wstrict-prototypes'
cc -std=c11 $strict -I"$root/prefix/include" -fsyntax-only "$root/alone.c"
cc -std=c11 $strict -I"$root/prefix/include" -fsyntax-only "$root/error.c"
cc -std=c11 $strict -I"$root/prefix/include" -fsyntax-only "$root/actor.c"
if command -v c++ > /dev/null; then
    c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -I"$root/prefix/include" -fsyntax-only "$root/alone.cc"
    c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -I"$root/prefix/include" -fsyntax-only "$root/actor.cc"
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

# Plugins: those that come with Weir run from where they are installed and export one name; a new one builds and passes.
weir=$root/prefix/bin/weir
PATH=$root/prefix/bin:$PATH
export PATH
plugins=$(pkg-config --variable=plugindir weir-actor)
for name in dedup route threshold top window; do
    foreign=$(nm -D --defined-only "$plugins/$name.so" | awk '{ print $3 }' | grep -vx 'weir_actor_plugin' || true)
    [ -z "$foreign" ] || fail "$name.so exports $foreign"
done
echo '{"topic":"a","key":"k","value":1}' > "$root/record.jsonl"
"$weir" plugin test --config '{"every_ms":0}' "$plugins/top.so" < "$root/record.jsonl" > "$root/out" 2> "$root/log" ||
    { cat "$root/log" >&2; fail "the installed plugin top does not run"; }
grep -q '"key":"k","count":1' "$root/out" || fail "the installed plugin top emits $(cat "$root/out")"
for role in fold processor; do
    new=$root/my-$role
    "$weir" plugin new --role $role "my-$role" "$new" > "$root/new.log"
    cmake -S "$new" -B "$new/build" > "$root/cmake.log" 2>&1 && cmake --build "$new/build" > "$root/cmake.log" 2>&1 ||
        { cat "$root/cmake.log" >&2; fail "the new plugin in the role $role cannot be built"; }
    if grep -q warning "$root/cmake.log"; then cat "$root/cmake.log" >&2; fail "a new plugin is built with warnings"; fi
    ctest --test-dir "$new/build" --output-on-failure > "$root/ctest.log" 2>&1 ||
        { cat "$root/ctest.log" >&2; fail "the new plugin in the role $role fails its own test"; }
    # As one compiler call by pkg-config, too.
    cc -std=c11 $strict -fPIC -shared $(pkg-config --cflags weir-actor) "$new/my-$role.c" -o "$root/by_hand.so"
    chmod go-w "$root/by_hand.so"
    "$new/test/run.sh" "$weir" "$root/by_hand.so" 2> "$root/log" ||
        { cat "$root/log" >&2; fail "built by hand the new plugin does not pass"; }
done
if "$weir" plugin new my-fold "$root/my-fold" 2> "$root/again.log"; then fail "plugin new overwrites a folder"; fi
grep -q 'File exists' "$root/again.log" || fail "plugin new does not say that the folder exists"
echo "install: fine"
