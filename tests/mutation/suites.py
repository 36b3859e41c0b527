"""Which tests are to kill the mutants of which headers.

A suite is an executable: sources with their flags, and doctest's arguments. Suites that compile
quickly come first, for the first failure ends a mutant. forms_test and simd_test are taken apart
by policy and by instruction set: whole, they take minutes to compile.
"""

import dataclasses

AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = ("-mavx512f", "-mavx512cd", "-mavx512bw", "-mavx512dq", "-mavx512vl")


@dataclasses.dataclass(frozen=True)
class Source:
    path: str  # below tests/
    flags: tuple = ()


@dataclasses.dataclass(frozen=True)
class Suite:
    sources: tuple
    arguments: tuple = ()
    # With the mutant only these are compiled, the others without: instruction sets have functions
    # of their own, and every one alone is compared with the definition.
    mutated: tuple = ()


def library(path, *flags):
    return Suite((Source(f"library/{path}_test.cpp", flags),))


def parsing(path, *flags):
    """A test that leaves parse_router()'s instantiation to library/compile_once.cpp."""
    return Suite((*library(path, *flags).sources, Source("library/compile_once.cpp")))


def forms(policies, flags=()):
    """forms_test of some of its policies (`kinds` there)."""
    return library("views/forms", f"-DFDROUTE_FORMS={policies}", *flags)


SIMD = {
    "scalar": Source("simd/scalar.cpp"),
    "sse2": Source("simd/sse2.cpp"),
    "avx2": Source("simd/avx2.cpp", AVX2),
    "avx512": Source("simd/avx512.cpp", AVX512),
}


def simd(arch, policies=0xFFFFF):
    """simd_test of some of its policies (Case::Policy in simd/routes.hpp)."""
    some = () if policies == 0xFFFFF else (f"-DFDROUTE_POLICIES={policies:#x}U",)
    tests = ("simd/simd_test.cpp", "simd/routing_digest_test.cpp")
    sources = (*map(Source, tests), *SIMD.values())
    sources = tuple(Source(s.path, (*some, *s.flags)) for s in sources)
    return Suite(sources, mutated=(SIMD[arch].path,))


SUITES = {
    # One policy, or few, by the kernels and by the definition, in every form.
    "forms_bh": forms(0x001),
    "forms_topk": forms(0x002),
    "forms_log_softmax": forms(0x004),
    "forms_zscore": forms(0x008),
    "forms_holm": forms(0x010),
    "forms_p": forms(0x020),
    "forms_top_p": forms(0x040),
    "forms_relative": forms(0x080),
    "forms_weights": forms(0x100),
    "forms_avx2": forms(0x011, AVX2),
    "forms_avx2_p": forms(0x062, AVX2),
    "forms_avx512": forms(0x011, AVX512),
    "forms_avx512_p": forms(0x062, AVX512),
    "simd_scalar": simd("scalar"),
    "simd_sse2": simd("sse2"),
    "simd_avx2": simd("avx2"),
    "simd_avx512": simd("avx512"),
    "simd_topk": simd("avx2", 0x00001),
    "simd_topk_avx512": simd("avx512", 0x00001),
    "simd_one_token": simd("avx2", 0x0001F),
    "simd_one_token_avx512": simd("avx512", 0x0001F),
    "simd_bh_logit": simd("avx2", 0x00002),
    "simd_hc": simd("avx2", 0x02020),
    "simd_top_p": simd("avx2", 0x04000),
    "simd_half_range": simd("avx2", 0x10000),
    "simd_expert_p": simd("avx2", 0xE0000),
    "any_router": library("router/any_router"),
    "any_weights": library("weights/any_weights"),
    "batch": library("views/batch", "-fopenmp"),
    "completion": parsing("router/completion", "-fopenmp"),
    "conformal": library("nulls/conformal_null"),
    "critical_scores": library("rules/critical_scores"),
    "csr": parsing("views/csr", "-fopenmp"),
    "deviation_rules": library("rules/deviation_rules"),
    "dispatch": library("views/dispatch"),
    "eigen": library("views/eigen", "-fopenmp"),
    "error_control": library("rules/error_control"),
    "expert_nulls": library("nulls/expert_nulls"),
    "formats": library("views/formats"),
    "generic": Suite((Source("simd/generic_test.cpp"),)),
    "group_limited": library("router/group_limited"),
    "in_place": library("router/in_place"),
    "multiple_testing": library("rules/multiple_testing"),
    "nulls": library("nulls/nulls"),
    "openmp": library("router/openmp", "-fopenmp"),
    "own_policies": library("router/own_policies"),
    "parse": parsing("policy_string/parse"),
    "parse_completion": library("policy_string/parse_completion"),
    "preconditions": library("router/preconditions"),
    "presets": parsing("router/presets"),
    "quote": parsing("policy_string/quote"),
    "ranking": library("router/ranking"),
    "residency": library("router/residency"),
    "router": library("router/router"),
    "rule_routing": library("rules/rule_routing"),
    "rules": library("rules/rules"),
    "scores": library("scores/scores"),
    "sigmoid_weights": library("weights/sigmoid_weights"),
    "summary": library("router/summary"),
    "tails": library("nulls/tails"),
    "views": library("views/views"),
    "weights": library("weights/weights"),
}

# The longest prefix of a header's path below include/fdroute/ that stands here decides.
TESTS = {
    "": "views router any_router own_policies forms_bh",
    "any_router": "any_router own_policies",
    "bounds": "rules router forms_bh",
    "completion": "residency completion",
    "concepts": "views own_policies router",
    "detail/": "forms_bh forms_topk router simd_sse2",
    "detail/block/": "forms_bh forms_topk forms_top_p forms_weights simd_sse2",
    "detail/block/complete": "completion preconditions simd_sse2 simd_avx2",
    "detail/block/count_by_critical": "forms_bh forms_holm simd_sse2",
    "detail/block/count_by_expert_p": "expert_nulls simd_expert_p",
    "detail/block/count_by_logits": "forms_top_p forms_relative simd_top_p simd_half_range",
    "detail/block/count_by_p": "forms_p simd_sse2",
    "detail/block/in_blocks": "csr openmp",
    "detail/block/keys": "group_limited presets simd_sse2 simd_avx2",
    "detail/block/load": "forms_bh views simd_avx2",
    "detail/block/one_token": "forms_topk simd_topk simd_one_token simd_one_token_avx512",
    "detail/block/policy_kernels": "own_policies ranking forms_bh forms_topk forms_top_p simd_sse2",
    "detail/block/rank": "forms_topk forms_bh simd_topk simd_bh_logit simd_topk_avx512",
    "detail/block/route_block": "forms_topk forms_bh forms_weights simd_topk simd_bh_logit simd_sse2",
    "detail/block/scores": "forms_bh forms_log_softmax forms_zscore simd_sse2",
    "detail/block/small_rows": "forms_topk simd_topk simd_topk_avx512",
    "detail/block/sort": "forms_p forms_top_p simd_hc simd_half_range",
    "detail/block/tiles": "eigen simd_sse2",
    "detail/block/weigh": "forms_topk forms_weights presets simd_sse2 simd_avx2",
    "detail/block/widen": "any_router formats simd_avx2 eigen",
    "detail/block/write": "forms_bh forms_topk forms_weights simd_avx512",
    "detail/block/token_block": "forms_bh forms_log_softmax forms_zscore forms_topk simd_sse2",
    "detail/checks/": "preconditions views router own_policies",
    "detail/dispatch/": "dispatch batch",
    "detail/number/": "quote rules ranking critical_scores forms_relative router",
    "detail/number/rounded_sum": "forms_relative simd_sse2 rules",
    "detail/number/to_text": "quote parse",
    "detail/number/total_order": "ranking critical_scores expert_nulls router",
    "detail/policy_string/": "parse",
    "detail/row/": "weights scores router forms_bh forms_topk views",
    "detail/row/exp_sum": "weights scores forms_log_softmax simd_scalar simd_sse2",
    "detail/row/recipes": "group_limited presets simd_sse2",
    "detail/row/sigmoid": "sigmoid_weights group_limited presets simd_sse2",
    "detail/row/route_row": "forms_bh expert_nulls router rule_routing views ranking",
    "detail/row/score_maps": "scores forms_zscore forms_log_softmax simd_sse2",
    "detail/rule/": "rules deviation_rules critical_scores rule_routing tails forms_bh",
    "detail/rule/boundary_crossing": "deviation_rules error_control",
    "detail/rule/critical_scores": "critical_scores forms_bh rule_routing",
    "detail/rule/expert_critical_scores": "critical_scores expert_nulls simd_expert_p",
    "detail/rule/step_rules": "rules multiple_testing rule_routing",
    "detail/rule/strongest_deviation": "deviation_rules rules simd_sse2",
    "detail/rule/survival_table": "nulls tails forms_p simd_sse2",
    "detail/rule/weighted_p": "rules nulls conformal expert_nulls",
    "detail/simd/": "forms_bh forms_topk forms_p forms_avx2 forms_avx512 simd_sse2 simd_avx2",
    "detail/simd/avx512": "forms_avx512 forms_avx512_p simd_topk_avx512 simd_avx512",
    "detail/simd/generic": "generic simd_avx2",
    "detail/simd/x86": "forms_bh forms_p forms_avx2 forms_avx2_p simd_avx2 simd_sse2",
    "dispatch": "dispatch batch",
    "eigen": "eigen",
    "execution": "csr openmp router",
    "formats": "formats views",
    "limits": "router dispatch parse",
    "multiple_testing": "multiple_testing",
    "null/": "nulls tails expert_nulls conformal router",
    "null/conformal": "conformal",
    "null/per_expert": "expert_nulls",
    "null/weighted": "nulls conformal expert_nulls",
    "openmp": "openmp csr",
    "parse": "parse",
    "parse_completion": "parse_completion",
    "policy_settings": "parse",
    "presets": "presets parse",
    "ranking/": "ranking group_limited presets",
    "residency": "residency preconditions",
    "router": "router any_router forms_bh own_policies preconditions in_place",
    "score/": "scores router",
    "selection/": "rules deviation_rules rule_routing router parse",
    "selection/absolute": "rules router",
    "selection/berk_jones": "deviation_rules rule_routing critical_scores",
    "selection/critical_statistic": "deviation_rules",
    "selection/higher_criticism": "deviation_rules rule_routing",
    "selection/hommel": "multiple_testing rule_routing",
    "selection/relative": "rules router forms_relative",
    "selection/top_p": "rules router forms_top_p",
    "summary": "summary",
    "ties": "ranking",
    "views": "views csr formats dispatch",
    "output/": "views csr formats dispatch forms_bh preconditions",
    "weights/": "weights any_weights sigmoid_weights presets",
    "weights/sigmoid": "sigmoid_weights presets",
    "weights/softmax": "weights any_weights router forms_topk",
}


def suites_of(header):
    path = header.removeprefix("fdroute/")
    prefix = max((p for p in TESTS if path.startswith(p)), key=len)
    return TESTS[prefix].split()


assert all(name in SUITES for names in TESTS.values() for name in names.split())
