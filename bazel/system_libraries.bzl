"""Libraries and tools of the machine as Bazel repositories.

Everything persistd links against comes from the distribution's packages and is found by pkg-config, so a build needs
no network. A missing package stops the build with the name of the apt package to install.
"""

_LIBRARY_BUILD = """\
package(default_visibility = ["//visibility:public"])

cc_library(
    name = "{name}",
    defines = {defines},
    linkopts = {linkopts},
)
"""

def _run(ctx, arguments):
    result = ctx.execute(arguments)
    return result.stdout.strip() if result.return_code == 0 else None

def _missing(ctx, what):
    fail("\n\n{} was not found on this machine.\nInstall it with:  apt-get install {}\nor run deploy/setup, which installs everything.\n".format(
        what,
        ctx.attr.apt,
    ))

def _pkg_config_library_impl(ctx):
    pkg_config = ctx.which("pkg-config")
    if not pkg_config:
        fail("\n\npkg-config was not found. Install it with:  apt-get install pkg-config\nor run deploy/setup.\n")
    for header in ctx.attr.headers:
        if not ctx.path("/usr/include/" + header).exists:
            _missing(ctx, "The header <{}> of {}".format(header, ctx.name))
    cflags = []
    libs = []
    if ctx.attr.modules:
        cflags = _run(ctx, [pkg_config, "--cflags"] + ctx.attr.modules)
        libs = _run(ctx, [pkg_config, "--libs"] + ctx.attr.modules)
        if cflags == None or libs == None:
            _missing(ctx, "{} (pkg-config: {})".format(ctx.name, " ".join(ctx.attr.modules)))
        cflags = [flag for flag in cflags.split(" ") if flag]

        # Order matters only for repeated archives; shared libraries are named once to keep link lines short.
        unique = []
        for flag in libs.split(" "):
            if flag and (flag not in unique or not flag.startswith("-l")):
                unique.append(flag)
        libs = unique
    ctx.file("BUILD.bazel", _LIBRARY_BUILD.format(
        name = ctx.attr.target or ctx.name,
        defines = [flag[2:] for flag in cflags if flag.startswith("-D")],
        linkopts = libs + ctx.attr.linkopts,
    ))

pkg_config_library = repository_rule(
    implementation = _pkg_config_library_impl,
    attrs = {
        "modules": attr.string_list(doc = "pkg-config modules; empty for a header-only library without a .pc file"),
        "headers": attr.string_list(doc = "headers under /usr/include that must exist"),
        "linkopts": attr.string_list(doc = "link options that pkg-config does not know of"),
        "target": attr.string(doc = "name of the target; default: the repository's name"),
        "apt": attr.string(mandatory = True, doc = "apt package that provides it"),
    },
    configure = True,
    local = True,
)

def _program_impl(ctx):
    path = ctx.which(ctx.attr.program)
    if not path:
        _missing(ctx, "The program " + ctx.attr.program)
    ctx.symlink(path, ctx.attr.program)
    ctx.file("BUILD.bazel", 'exports_files(["{}"], visibility = ["//visibility:public"])\n'.format(ctx.attr.program))

program = repository_rule(
    implementation = _program_impl,
    attrs = {"program": attr.string(mandatory = True), "apt": attr.string(mandatory = True)},
    configure = True,
    local = True,
)

def _tools_impl(ctx):
    # deploy/setup puts what Debian 12 does not package (a current nats-server, npm's packages) into .tools of the checkout.
    folder = str(ctx.path(ctx.attr.workspace).dirname) + "/.tools"
    for name, candidates in ctx.attr.tools.items():
        paths = [path for path in [ctx.path(folder + "/" + candidate) for candidate in candidates] if path.exists]
        if not paths:
            fail("\n\n{} is missing: there is no {} in {}.\nRun deploy/setup, which fetches it.\n".format(name, " or ".join(candidates), folder))
        ctx.symlink(paths[0], name)
    ctx.file("BUILD.bazel", 'exports_files({}, visibility = ["//visibility:public"])\n'.format(ctx.attr.tools.keys()))

tools = repository_rule(
    implementation = _tools_impl,
    attrs = {
        "workspace": attr.label(default = "//:WORKSPACE"),
        "tools": attr.string_list_dict(doc = "name of a program: where it may be in .tools; the first path that exists is taken"),
    },
    configure = True,
    local = True,
)

def _stub_impl(ctx):
    for path, content in ctx.attr.files.items():
        ctx.file(path, content)

_stub = repository_rule(implementation = _stub_impl, attrs = {"files": attr.string_dict()})

def system_repositories():
    """Declares every external repository of the build."""

    # What bazel-bootstrap 4.2.3 would otherwise download. Debian's own bazel-rules-cc is too new for it.
    _stub(name = "rules_cc", files = {
        "WORKSPACE": "",
        "BUILD.bazel": "",
        "cc/BUILD.bazel": "",
        "cc/defs.bzl": "\n".join(["cc_{0} = native.cc_{0}".format(kind) for kind in [
            "binary",
            "import",
            "library",
            "proto_library",
            "test",
            "toolchain",
            "toolchain_suite",
        ]]) + "\n",
    })
    _stub(name = "remote_coverage_tools", files = {
        "WORKSPACE": "",
        "BUILD.bazel": 'filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])\n',
    })
    native.local_repository(name = "rules_java", path = "/usr/share/bazel/rules/java")
    native.local_repository(name = "rules_proto", path = "/usr/share/bazel/rules/proto")

    pkg_config_library(name = "grpc", modules = ["grpc++", "protobuf"], apt = "libgrpc++-dev libprotobuf-dev", headers = ["grpcpp/grpcpp.h"])
    pkg_config_library(
        name = "grpc_reflection",
        # The plugin registers itself from a static initialiser, so the linker must not drop it.
        linkopts = ["-Wl,--push-state,--no-as-needed", "-lgrpc++_reflection", "-Wl,--pop-state"],
        headers = ["grpcpp/ext/proto_server_reflection_plugin.h"],
        apt = "libgrpc++-dev",
    )
    pkg_config_library(
        name = "absl",
        modules = ["absl_status", "absl_statusor", "absl_strings", "absl_time", "absl_flat_hash_map", "absl_flat_hash_set", "absl_str_format"],
        apt = "libabsl-dev",
    )
    pkg_config_library(name = "nats", modules = ["libnats"], headers = ["nats/nats.h"], apt = "libnats-dev")
    pkg_config_library(name = "httplib", modules = ["cpp-httplib"], headers = ["httplib.h"], apt = "libcpp-httplib-dev")
    pkg_config_library(name = "spdlog", modules = ["spdlog"], apt = "libspdlog-dev")
    pkg_config_library(name = "yaml_cpp", modules = ["yaml-cpp"], apt = "libyaml-cpp-dev")
    pkg_config_library(name = "openssl", modules = ["openssl"], apt = "libssl-dev")
    pkg_config_library(name = "nlohmann_json", modules = ["nlohmann_json"], apt = "nlohmann-json3-dev")
    pkg_config_library(name = "mimalloc", headers = ["mimalloc.h"], linkopts = ["-Wl,--no-as-needed", "-lmimalloc"], apt = "libmimalloc-dev")
    pkg_config_library(name = "sqlite3", modules = ["sqlite3"], headers = ["sqlite3.h"], apt = "libsqlite3-dev")
    pkg_config_library(name = "prometheus", modules = ["prometheus-cpp-pull"], headers = ["prometheus/exposer.h"], apt = "prometheus-cpp-dev")
    pkg_config_library(name = "jq", headers = ["jq.h"], linkopts = ["-ljq"], apt = "libjq-dev")
    pkg_config_library(name = "catch2", modules = ["catch2"], apt = "catch2")
    pkg_config_library(name = "rapidcheck", headers = ["rapidcheck.h"], linkopts = ["-lrapidcheck"], apt = "librapidcheck-dev")
    program(name = "protoc", program = "protoc", apt = "protobuf-compiler")
    program(name = "grpc_cpp_plugin", program = "grpc_cpp_plugin", apt = "protobuf-compiler-grpc")
    program(name = "grpc_python_plugin", program = "grpc_python_plugin", apt = "protobuf-compiler-grpc")
    program(name = "node", program = "node", apt = "nodejs")
    tools(name = "tools", tools = {
        # The native program: node_modules/.bin/buf is a script that needs Node and its own folder around it.
        "buf": ["buf/node_modules/@bufbuild/buf-linux-{}/bin/buf".format(cpu) for cpu in ["x64", "aarch64"]],
        # Says which packages there are, so that tests run again with others. Scripts find them by their names:
        # tests/interop/node_modules leads there.
        "ipld": ["ipld/package.json"],
        "nats-server": ["nats-server/usr/sbin/nats-server"],
    })
