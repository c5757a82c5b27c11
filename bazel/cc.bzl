"""Build macros: our own C++ code is compiled with every warning as an error, generated code with none."""

_COPTS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]

def persistd_library(name, **kwargs):
    native.cc_library(name = name, copts = _COPTS + kwargs.pop("copts", []), **kwargs)

def persistd_binary(name, **kwargs):
    native.cc_binary(name = name, copts = _COPTS + kwargs.pop("copts", []), **kwargs)

def persistd_test(name, deps = [], **kwargs):
    """A Catch2 test program. Its size bounds its running time as Bazel defines it."""
    native.cc_test(
        name = name,
        copts = _COPTS + kwargs.pop("copts", []),
        deps = deps + ["//tests/testing:catch_main"],
        size = kwargs.pop("size", "small"),
        **kwargs
    )

def persistd_fuzz_test(name, srcs, **kwargs):
    """A libFuzzer target: a fuzzer with --config=fuzz, otherwise a test that runs it over changes of its seeds."""
    native.cc_test(
        name = name,
        srcs = srcs + ["//tests/fuzz:fuzz_target.h"] + select({
            "//bazel:fuzzer": [],
            "//conditions:default": ["//tests/fuzz:driver.cc"],
        }),
        copts = _COPTS + kwargs.pop("copts", []),
        linkopts = select({"//bazel:fuzzer": ["-fsanitize=fuzzer"], "//conditions:default": []}),
        size = "small",
        **kwargs
    )
