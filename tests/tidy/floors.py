"""The floor plan: which folder stands on which. The one table; README.md draws it, CMakeLists.txt links it.

A folder may include from lower floors only, and of those only what its row allows. A row is
(floor, folders it may use, third-party headers it may use); "below" stands for every lower floor of its own tree.
"""

FLOORS = {
    "actors/base":      (0, (), ()),
    "actors/memory":    (1, ("below",), ()),
    "actors/runtime":   (2, ("below",), ()),
    "actors/supervise": (3, ("below",), ()),
    # What somebody builds who takes the runtime alone.
    "actors/examples":  (4, ("actors/base", "actors/memory", "actors/runtime", "actors/supervise"), ()),
    # Pages are in wire encoding; topics ask their supervisor for nothing but its contract.
    "actors/topic":     (3, ("below", "actors/supervise", "clients/wire"), ()),
    "actors/plugin":    (4, ("below", "clients/wire"), ("seccomp",)),
    # Plugins, which have of the broker its one public header (STAND_ALONE).
    "actors/plugins":   (5, ("actors/plugin",), ()),
    # Clients use of the actor model only its base: libweir has no arena and no scheduler.
    "clients/wire":     (1, ("actors/base",), ("msgpack", "jansson")),
    "clients/sp":       (2, ("actors/base", "clients/wire"), ()),
    "clients/lib":      (3, ("actors/base", "below"), ()),
    "broker/gateway":   (4, ("below", "actors", "clients/wire", "clients/sp"), ()),
    "broker/session":   (5, ("below", "actors", "clients/wire", "clients/sp"), ()),
    "broker/admin":     (6, ("below", "actors", "clients/wire", "clients/sp"), ("nng",)),
    "broker/sys":       (7, ("below", "actors", "clients/wire"), ()),
    "broker/main":      (8, ("below", "actors", "clients/wire", "clients/sp"), ("nng", "cyaml", "systemd")),
    # One binary: the verb `serve` calls broker/main.
    # `plugin test` runs a plugin without one.
    "clients/cli":      (9, ("below", "actors/base", "actors/plugin", "broker/main"), ("jansson",)),
}

# Folders of programs of their own, with a CMakeLists.txt of their own: nothing links them.
PROGRAMS = {"actors/examples", "actors/plugins"}

# Folders that stand on public headers alone, as what users write does.
STAND_ALONE = {"actors/plugins"}

# Headers of libraries, by the library's name in the table.
THIRD_PARTY = {
    "nng": ("nng/",),
    "msgpack": ("msgpack.h", "msgpack/"),
    "jansson": ("jansson.h",),
    "cyaml": ("cyaml/",),
    "systemd": ("systemd/",),
    "seccomp": ("seccomp.h",),
}

# actors/base is in the include path, for headers that users get flat.
FLAT_FOLDER = "actors/base"

# What users install includes nothing of ours but each other.
PUBLIC_HEADERS = {"clients/lib/weir.h", "actors/base/weir_error.h", "actors/plugin/weir_actor.h"}


def folder_of(name):
    """The row that a path belongs to, sub-folders included; None outside the floor plan."""
    return next((folder for folder in FLOORS if name.startswith(folder + "/")), None)


def may_use(user, used):
    """None when user may include from used, else the sentence that says why not."""
    floor, allowed, _ = FLOORS[user]
    if user == used:
        return None
    if FLOORS[used][0] > floor or (FLOORS[used][0] == floor and used not in allowed):
        return f"{used} (floor {FLOORS[used][0]}) is not below {user} (floor {floor})"
    tree = user.split("/")[0]
    if used in allowed or used.split("/")[0] in allowed or ("below" in allowed and used.split("/")[0] == tree):
        return None
    return f"{user} may not use {used}"
