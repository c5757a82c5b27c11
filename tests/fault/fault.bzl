"""A fault test in its usual size and, as NAME_full with the tag "full", in a larger one."""

load("//bazel:cc.bzl", "persistd_test")

def fault_test(name, scale = 5, tags = [], **kwargs):
    srcs = kwargs.pop("srcs", [name + ".cc"])
    persistd_test(name = name, srcs = srcs, size = "medium", tags = tags, **kwargs)
    persistd_test(
        name = name + "_full",
        srcs = srcs,
        size = "large",
        tags = tags + ["full"],
        env = {"FAULT_SCALE": str(scale)},
        **kwargs
    )
