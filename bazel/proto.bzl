"""Generates C++ and Python code for protobuf messages and gRPC services."""

def cc_grpc_library(name, srcs, root, visibility = None):
    """A cc_library with the messages and services of `srcs`.

    Args:
      name: the library's name.
      srcs: .proto files, which may import each other.
      root: the folder (from the workspace) that the imports in `srcs` are relative to.
      visibility: who may use it.
    """
    outs = []
    for src in srcs:
        stem = src[:-len(".proto")]
        outs += [stem + suffix for suffix in [".pb.h", ".pb.cc", ".grpc.pb.h", ".grpc.pb.cc"]]
    native.genrule(
        name = name + "_generate",
        srcs = srcs,
        outs = outs,
        tools = ["@protoc//:protoc", "@grpc_cpp_plugin//:grpc_cpp_plugin"],
        cmd = ("$(location @protoc//:protoc) -I{root} -I/usr/include --cpp_out=$(GENDIR)/{root} --grpc_out=$(GENDIR)/{root} " +
               "--plugin=protoc-gen-grpc=$(location @grpc_cpp_plugin//:grpc_cpp_plugin) $(SRCS)").format(root = root),
    )
    native.cc_library(
        name = name,
        srcs = [out for out in outs if out.endswith(".cc")],
        hdrs = [out for out in outs if out.endswith(".h")],
        copts = ["-w"],
        # Generated files include each other relative to `root`; so does the code that uses them.
        strip_include_prefix = "/" + root,
        deps = ["@grpc"],
        visibility = visibility,
    )

def py_grpc_files(name, srcs, root, visibility = None):
    """A filegroup with <stem>_pb2.py and <stem>_pb2_grpc.py for each of `srcs`."""
    outs = []
    for src in srcs:
        stem = src[:-len(".proto")]
        outs += [stem + suffix for suffix in ["_pb2.py", "_pb2_grpc.py"]]
    native.genrule(
        name = name,
        srcs = srcs,
        outs = outs,
        tools = ["@protoc//:protoc", "@grpc_python_plugin//:grpc_python_plugin"],
        cmd = ("$(location @protoc//:protoc) -I{root} -I/usr/include --python_out=$(GENDIR)/{root} --grpc_out=$(GENDIR)/{root} " +
               "--plugin=protoc-gen-grpc=$(location @grpc_python_plugin//:grpc_python_plugin) $(SRCS)").format(root = root),
        visibility = visibility,
    )
