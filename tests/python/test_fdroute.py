"""Tests of the Python package, by unittest. FDROUTE_LIBRARY names the C library.

Expected values come from the definitions in plain Python, and from statsmodels. What needs a package that is not
there is skipped by name.
"""

from __future__ import annotations

import math
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy as np

import fdroute
from fdroute import _null
from fdroute._route import _Rows as Rows

try:
    from statsmodels.stats.multitest import multipletests as statsmodels_tests
except ImportError:
    statsmodels_tests = None
try:
    import torch
except ImportError:
    torch = None

MODEL = pathlib.Path(__file__).resolve().parents[2] / "reference" / "model"
POLICY = "bh:alpha=0.5,min_k=1,max_k=6,null=normal,score=zscore"
RANDOM = np.random.default_rng(7)


def upper_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def kernel_p(sample: list[float], tail: int, bandwidth: float, excess: float, score: float) -> float:
    """Null.fit's P(S >= score) by its definition; `sample` ascends."""
    n = len(sample)
    body = sample[: n - tail]
    u = body[-1]
    if score > u:
        return tail / n * math.exp(-(score - u) / excess)
    return tail / n + sum(
        upper_tail((score - x) / bandwidth) - upper_tail((2 * u - score - x) / bandwidth) for x in body
    ) / n


def route_by_definition(row: list[float], alpha: float, max_k: int) -> list[tuple[int, float]]:
    """BH on z-scores under a normal null, at least one and at most max_k experts, softmax over all as weights."""
    m = len(row)
    mean = sum(row) / m
    sd = math.sqrt(sum((x - mean) ** 2 for x in row) / m)
    order = sorted(range(m), key=lambda j: (-row[j], j))
    p = [upper_tail((row[j] - mean) / sd) for j in order]
    count = max([k for k in range(1, m + 1) if p[k - 1] <= alpha * k / m], default=0)
    total = sum(math.exp(x - max(row)) for x in row)
    return [(j, math.exp(row[j] - max(row)) / total) for j in order[: min(max(count, 1), max_k)]]


class Route(unittest.TestCase):
    def setUp(self) -> None:
        self.logits = RANDOM.standard_exponential((50, 16)).astype(np.float32)
        self.expected = [route_by_definition(row, 0.5, 6) for row in self.logits.tolist()]
        self.assertGreater(len({len(row) for row in self.expected}), 2)  # the counts vary

    def check(self, got: fdroute.Padded, expected: list[list[tuple[int, float]]]) -> None:
        ids, weights, counts = (np.asarray(array).reshape(len(expected), -1) for array in got)
        for t, row in enumerate(expected):
            self.assertEqual(counts[t, 0], len(row))
            self.assertEqual(ids[t].tolist(), [j for j, w in row] + [-1] * (6 - len(row)))
            np.testing.assert_allclose(weights[t], [w for j, w in row] + [0] * (6 - len(row)), rtol=1e-5)

    def test_padded_is_the_definition(self) -> None:
        self.check(fdroute.route(self.logits, POLICY), self.expected)

    def test_shapes(self) -> None:
        got = fdroute.route(self.logits.reshape(5, 10, 16), POLICY)
        self.assertEqual([a.shape for a in got], [(5, 10, 6), (5, 10, 6), (5, 10)])
        self.check(got, self.expected)
        one = fdroute.route(self.logits[0], POLICY)
        self.assertEqual([a.shape for a in one], [(6,), (6,), ()])
        self.check(one, self.expected[:1])
        none = fdroute.route(self.logits[:0], POLICY)
        self.assertEqual([a.shape for a in none], [(0, 6), (0, 6), (0,)])

    def test_strides_are_read_in_place(self) -> None:
        wide = np.full((50, 40), 99, np.float32)
        wide[:, 3:35:2] = self.logits
        self.check(fdroute.route(wide[:, 3:35:2], POLICY), self.expected)
        self.check(fdroute.route(self.logits[::-1], POLICY), self.expected[::-1])
        self.check(fdroute.route(np.asfortranarray(self.logits), POLICY), self.expected)
        with self.assertRaisesRegex(ValueError, "not rows of one stride: pass numpy.ascontiguousarray"):
            fdroute.route(self.logits.reshape(5, 10, 16).transpose(1, 0, 2), POLICY)

    def test_no_copy(self) -> None:
        """What the library is given is the caller's memory, whatever the strides."""
        for view in (self.logits, self.logits[5:, 2:14:3], self.logits[::-1, ::-1], self.logits.T, self.logits[3]):
            rows = Rows(view)
            self.assertEqual(rows.data, view.ctypes.data)
            self.assertEqual((rows.tokens, rows.experts), (view.size // view.shape[-1], view.shape[-1]))
            self.assertEqual(rows.expert_stride * 4, view.strides[-1])

    def test_half_precision(self) -> None:
        half = self.logits.astype(np.float16)
        want = fdroute.route(half.astype(np.float32), POLICY)
        for a, b in zip(fdroute.route(half, POLICY), want):
            np.testing.assert_array_equal(a, b)

    def test_dense_and_csr(self) -> None:
        ids, weights, counts = fdroute.route(self.logits, POLICY)
        dense = fdroute.route(self.logits, POLICY, form="dense")
        csr = fdroute.route(self.logits, POLICY, form="csr", id_type=np.uint8)
        self.assertEqual(dense.weights.shape, (50, 16))
        self.assertEqual(csr.ids.dtype, np.uint8)
        np.testing.assert_array_equal(dense.counts, counts)
        np.testing.assert_array_equal(np.diff(csr.offsets), counts)
        for t in range(50):
            row = np.zeros(16, np.float32)
            row[ids[t, : counts[t]]] = weights[t, : counts[t]]
            np.testing.assert_array_equal(dense.weights[t], row)
            part = slice(csr.offsets[t], csr.offsets[t + 1])
            np.testing.assert_array_equal(csr.ids[part], ids[t, : counts[t]])
            np.testing.assert_array_equal(csr.weights[part], weights[t, : counts[t]])
        self.assertEqual(len(csr.ids), csr.offsets[-1])

    def test_padding_masks_and_skips(self) -> None:
        router = fdroute.Router(POLICY, 16)
        ids, weights, counts = router.padded(self.logits, padding="repeat", id_type=np.int64)
        for t in range(50):
            self.assertEqual(set(ids[t, counts[t] :].tolist()), set() if counts[t] == 6 else {ids[t, 0]})
        mask = RANDOM.random((50, 16)) < 0.7
        hidden = np.where(mask, self.logits, -np.inf).astype(np.float32)
        for a, b in zip(router.padded(self.logits, mask=mask), router.padded(hidden)):
            np.testing.assert_array_equal(a, b)
        one = router.padded(self.logits, mask=mask[3])
        for a, b in zip(one, router.padded(np.where(mask[3], self.logits, -np.inf).astype(np.float32))):
            np.testing.assert_array_equal(a, b)
        skip = RANDOM.random(50) < 0.5
        np.testing.assert_array_equal(router.padded(self.logits, skip=skip).counts, np.where(skip, 0, counts))

    def test_many_experts_have_several_mask_words(self) -> None:
        logits = RANDOM.normal(0, 1, (20, 100)).astype(np.float32)
        mask = RANDOM.random((20, 100)) < 0.3
        ids = fdroute.route(logits, "topk:k=8", mask=mask).ids
        for t in range(20):
            allowed = sorted(np.flatnonzero(mask[t]), key=lambda j: -logits[t, j])[:8]
            self.assertEqual(ids[t].tolist(), allowed)

    def test_bias(self) -> None:
        bias = RANDOM.normal(0, 1, 16).astype(np.float32)
        policy = "deepseek-v3:n_group=1,topk_group=1,num_experts_per_tok=4"
        ids = fdroute.Router(policy, 16, bias=bias).padded(self.logits).ids
        for t in range(50):
            key = [1 / (1 + math.exp(-x)) + b for x, b in zip(self.logits[t].tolist(), bias.tolist())]
            self.assertEqual(ids[t].tolist(), sorted(range(16), key=lambda j: -key[j])[:4])

    def test_threads_share_a_router(self) -> None:
        router, results = fdroute.Router(POLICY, 16), {}

        def run(i: int) -> None:
            results[i] = [router.padded(self.logits).counts.tolist() for _ in range(50)]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = [len(row) for row in self.expected]
        self.assertTrue(all(counts == got for many in results.values() for got in many))
        self.assertEqual(len(results), 4)

    def test_refusals(self) -> None:
        for arguments, error, words in [
            ((self.logits, "bh:null=normal,alhpa=0.1"), fdroute.Error, "position 16: unknown key 'alhpa'"),
            ((self.logits, "bh:alpha=0.1"), fdroute.Error, "null"),
            ((self.logits, "topk:k=2\0,max_k=3"), fdroute.Error, "has a null character"),
            ((self.logits.astype(np.float64), POLICY), TypeError, "float32, float16, got float64"),
            ((self.logits.tolist(), POLICY), TypeError, "numpy array or a torch tensor, got list"),
            ((np.float32(1), POLICY), TypeError, "got float32"),
            ((np.zeros((3, 0), np.float32), POLICY), ValueError, "must have shape"),
        ]:
            with self.subTest(words), self.assertRaisesRegex(error, words):
                fdroute.route(*arguments)
        with self.assertRaisesRegex(ValueError, "the router is for 8 experts, the logits have 16"):
            fdroute.Router("topk:k=2", 8).padded(self.logits)
        with self.assertRaisesRegex(ValueError, "mask must be bool"):
            fdroute.route(self.logits, POLICY, mask=np.ones((50, 16)))
        with self.assertRaisesRegex(ValueError, "form must be"):
            fdroute.route(self.logits, POLICY, form="sparse")
        with self.assertRaisesRegex(TypeError, "id_type must be one of"):
            fdroute.route(self.logits, POLICY, id_type=np.float32)


@unittest.skipIf(torch is None, "torch is not installed")
class Torch(unittest.TestCase):
    def test_tensors(self) -> None:
        logits = RANDOM.standard_exponential((4, 10, 16)).astype(np.float32)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            tensor = torch.from_numpy(logits).to(dtype)
            want = fdroute.route(tensor.float().numpy(), POLICY)
            got = fdroute.route(tensor, POLICY)
            self.assertEqual(got.ids.dtype, torch.int32)
            for a, b in zip(got, want):
                np.testing.assert_array_equal(a.numpy(), b)
            transposed = fdroute.route(tensor.reshape(40, 16).t().contiguous().t(), POLICY)
            np.testing.assert_array_equal(transposed.ids.numpy(), want.ids.reshape(40, -1))
            self.assertEqual(Rows(tensor[1:, :, 3:]).data, tensor[1:, :, 3:].data_ptr())
        with self.assertRaisesRegex(ValueError, "pass logits.contiguous"):
            fdroute.route(torch.from_numpy(logits).transpose(0, 1), POLICY)
        with self.assertRaisesRegex(TypeError, "torch.float64"):
            fdroute.route(torch.from_numpy(logits).double(), POLICY)


class Nulls(unittest.TestCase):
    def test_fit_is_the_kernel_estimate(self) -> None:
        """What BH selects under the fit is what it selects under the kernel estimate by its definition."""
        logits = RANDOM.normal(0, 1, (300, 8))
        null = fdroute.Null.fit(logits, score="zscore", trim=2)
        self.assertEqual(null.score, "zscore")
        sample = []
        for row in logits.tolist():
            mean = sum(row) / 8
            sd = math.sqrt(sum((x - mean) ** 2 for x in row) / 8)
            sample += sorted((x - mean) / sd for x in row)[:6]
        sample.sort()
        n = len(sample)
        mean = sum(sample) / n
        sd = math.sqrt(sum((x - mean) ** 2 for x in sample) / n)
        bandwidth = 0.9 * min(sd, (sample[3 * n // 4] - sample[n // 4]) / 1.34) * n**-0.2
        begin = sample[n - 100 - 1]
        excess = sum(x - begin for x in sample[n - 100 :]) / 100

        def estimate(score: float) -> float:
            return kernel_p(sample, 100, bandwidth, excess, score)

        # The p-value of an expert shows through Bonferroni: rejected if p <= alpha / experts.
        row = RANDOM.normal(0, 1, 8).astype(np.float32)
        row = (row - row.mean()) / row.std()
        largest = float(row.astype(np.float64).max())
        p = estimate(largest)
        for factor, count in ((0.9998, 0), (1.0002, 1)):
            policy = f"bonferroni:alpha={p * 8 * factor!r},min_k=0,max_k=1,score=zscore"
            self.assertEqual(fdroute.route(row, policy, null).counts, count)

    @staticmethod
    def p_value(null: fdroute.Null, score: float) -> float:
        """A null's p at a logit, found by bisection: a single expert is selected exactly if p <= alpha."""
        low, high = 1e-12, 1 - 1e-12
        for _ in range(45):
            middle = math.sqrt(low * high)
            policy = f"bonferroni:alpha={middle!r},min_k=0,max_k=1,score=logit"
            selected = fdroute.route(np.array([score], np.float32), policy, null).counts
            low, high = (low, middle) if selected else (middle, high)
        return high

    def test_robust_zscores(self) -> None:
        """Those of the definition; and of a fit to all scores the share p has p-values of p or less."""
        logits = RANDOM.normal(3, 2, (400, 9)).astype("f4")
        sample = []
        for row in logits.tolist():
            middle = sorted(row)[4]
            mad = sorted(abs(x - middle) for x in row)[4]
            sample.append([(x - middle) / (1.4826022185056018 * mad) for x in row])
        np.testing.assert_allclose(_null.scores(logits, "robust_zscore"), sample, rtol=1e-12)
        null = fdroute.Null.fit(logits, score="robust_zscore", trim=0)
        policy = "bonferroni:alpha=0.9,min_k=0,max_k=9,score=robust_zscore"  # p <= 0.1
        _, _, counts = fdroute.route(logits, policy, null)
        self.assertAlmostEqual(counts.sum() / logits.size, 0.1, delta=0.02)
        even = [[1.0, 2.0, 4.0, 8.0]]  # median 3, MAD (1 + 2) / 2
        expected = np.array([-2, -1, 1, 5]) / (1.4826022185056018 * 1.5)
        np.testing.assert_allclose(_null.scores(even, "robust_zscore")[0], expected)
        with self.assertRaisesRegex(ValueError, "equal"):
            fdroute.Null.fit(np.ones((200, 4)), score="robust_zscore", trim=1)

    def test_fit_over_the_whole_range(self) -> None:
        for n in (400, 20_000):
            sample = np.sort(RANDOM.gumbel(0, 1, n))
            null = fdroute.Null.fit(sample.reshape(-1, 1), score="logit", trim=0)
            sd, iqr = sample.std(), sample[3 * n // 4] - sample[n // 4]
            bandwidth = 0.9 * min(sd, iqr / 1.34) * n**-0.2
            tail = n // 10 if n < 1000 else 100
            begin = sample[n - tail - 1]
            excess = (sample[n - tail :] - begin).mean()
            for score in np.float32([sample[0], -1, 0, 0.5, 1, 2, begin, begin + 1, begin + 4]).tolist():
                p = kernel_p(sample.tolist(), tail, bandwidth, excess, score)
                self.assertAlmostEqual(self.p_value(null, score), p, delta=1e-4 * max(p, 1e-3), msg=f"{n} {score}")

    def test_load_is_the_file(self) -> None:
        null = fdroute.Null.load(MODEL / "nulls.safetensors", 1)
        logits = RANDOM.normal(-3, 1, (100, 64)).astype(np.float32)
        counts = fdroute.route(logits, "bh:alpha=0.05,max_k=16", null).counts
        other = fdroute.route(logits, "bh:alpha=0.05,max_k=16", fdroute.Null.load(MODEL / "nulls.safetensors", 2)).counts
        self.assertFalse(np.array_equal(counts, other))
        with self.assertRaisesRegex(fdroute.Error, "layer must lie in"):
            fdroute.Null.load(MODEL / "nulls.safetensors", 99)
        with self.assertRaisesRegex(fdroute.FileError, "none.safetensors"):
            fdroute.Null.load(MODEL / "none.safetensors", 0)
        with self.assertRaises(fdroute.NullMismatch):
            fdroute.route(logits, "bh:alpha=0.05,score=zscore", null)

    def test_others(self) -> None:
        logits = RANDOM.normal(0, 1, (30, 4)).astype(np.float32)
        line = fdroute.Null.from_log_survival([0, 1, 2], [0, -1, -3], "logit")
        self.assertAlmostEqual(self.p_value(line, 0.5), math.exp(-0.5), delta=1e-6)
        sample = [0.5, 1.5, 2.5]
        conformal = fdroute.Null.conformal(sample, "logit")
        # p = (1 + #{sample >= s}) / (n + 1)
        got = fdroute.route(logits, "bonferroni:alpha=0.99,min_k=0,max_k=4,score=logit,null=conformal", conformal).counts
        want = [sum((1 + sum(s >= x for s in sample)) / 4 <= 0.99 / 4 for x in row) for row in logits.tolist()]
        self.assertEqual(got.tolist(), [min(k, 4) for k in want])
        each = fdroute.Null.per_expert([line, line, line, fdroute.Null.from_log_survival([0, 1], [0, -9], "logit")])
        row = np.full((1, 4), 0.5, np.float32)
        ids = fdroute.route(row, "bonferroni:alpha=0.5,min_k=0,max_k=4,score=logit,null=per_expert", each).ids
        self.assertEqual(ids[0].tolist(), [3, -1, -1, -1])
        weighted = fdroute.Null.weighted([0.1, 0.1, 0.1, 3.7], line)
        ids = fdroute.route(row, "bonferroni:alpha=0.9,min_k=0,max_k=4,score=logit,prior=given", weighted).ids
        self.assertEqual(ids[0].tolist(), [3, -1, -1, -1])  # exp(-0.5) / 3.7 = 0.164 <= 0.9 / 4

    def test_refusals(self) -> None:
        logits = RANDOM.normal(0, 1, (300, 8))
        for arguments, words in [
            ((logits, "softmax", 2), "unknown score 'softmax'"),
            ((logits, "logit", 8), "trim must lie in 0 .. 7, got 8"),
            ((logits[:10], "logit", 2), "60 scores are too few"),
            ((np.where(logits > 3, np.nan, np.nan), "logit", 2), "must be finite"),
            ((np.zeros((300, 8)), "logit", 2), "all equal"),
            ((logits.astype(int), "logit", 2), "must be floats"),
        ]:
            with self.subTest(words), self.assertRaisesRegex(ValueError, words):
                fdroute.Null.fit(*arguments)
        with self.assertRaisesRegex(fdroute.Error, "ascend"):
            fdroute.Null.from_log_survival([1, 0], [0, -1], "logit")


class MultipleTesting(unittest.TestCase):
    METHODS = ["bonferroni", "sidak", "holm", "simes-hochberg", "hommel", "fdr_bh", "fdr_by", "fdr_tsbky"]

    @unittest.skipIf(statsmodels_tests is None, "statsmodels is not installed")
    def test_statsmodels(self) -> None:
        for trial in range(60):
            m = int(RANDOM.integers(1, 40))
            p = RANDOM.random(m) ** RANDOM.integers(1, 6)
            p[: m // 4] = np.round(p[: m // 4], 2)  # ties, and p = 0
            p = RANDOM.permutation(np.minimum(p, 0.999))
            alpha = float(RANDOM.choice([0.01, 0.05, 0.2, 0.5]))
            for method in self.METHODS + ["b", "ho", "fdr_i", "fdr_n", "fdr_2sbky"]:
                with self.subTest(method=method, trial=trial):
                    want, got = statsmodels_tests(p, alpha, method), fdroute.multipletests(p, alpha, method=method)
                    np.testing.assert_array_equal(got.reject, want[0])
                    np.testing.assert_allclose(got.pvals_corrected, want[1], rtol=1e-12, atol=1e-15)
                    np.testing.assert_allclose(got[2:], want[2:], rtol=1e-12)

    def test_bh_by_hand(self) -> None:
        reject, corrected, *_ = fdroute.multipletests([0.9, 0.01, 0.02, 0.5], method="fdr_bh")
        self.assertEqual(reject.tolist(), [False, True, True, False])
        np.testing.assert_allclose(corrected, [0.9, 0.04, 0.04, 2 / 3])
        self.assertEqual(fdroute.rejections("topk:k=1", [0.5, 0.1]).tolist(), [False, True])
        np.testing.assert_allclose(fdroute.weighted_p_values([0.2, 0.9], [0.5, 1.5]), [0.4, 0.6])

    def test_refusals(self) -> None:
        with self.assertRaisesRegex(ValueError, "unknown method 'holm-sidak'; there are bonferroni"):
            fdroute.multipletests([0.1], method="holm-sidak")
        with self.assertRaisesRegex(fdroute.Error, "alpha must lie in"):
            fdroute.multipletests([0.1], alpha=1.5, method="fdr_bh")
        with self.assertRaisesRegex(fdroute.Error, "p"):
            fdroute.multipletests([1.5], method="fdr_bh")
        with self.assertRaises(TypeError):
            fdroute.multipletests([0.1])


class Library(unittest.TestCase):
    def run_python(self, code: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
        )

    def test_the_library_named_is_the_one_that_is_loaded(self) -> None:
        gone = self.run_python("import fdroute", FDROUTE_LIBRARY="/nowhere/libfdroute_c.so")
        self.assertNotEqual(gone.returncode, 0)
        self.assertRegex(gone.stderr, "ImportError: fdroute needs its C library.*FDROUTE_LIBRARY.*/nowhere/")

    def test_the_packages_folder_goes_before_the_system(self) -> None:
        library = os.environ["FDROUTE_LIBRARY"]
        with tempfile.TemporaryDirectory() as folder:
            package = pathlib.Path(fdroute.__file__).parent
            (pathlib.Path(folder) / "fdroute").mkdir()
            for file in package.glob("*.py"):
                (pathlib.Path(folder) / "fdroute" / file.name).write_bytes(file.read_bytes())
            (pathlib.Path(folder) / "fdroute" / "libfdroute_c.so.0.2").symlink_to(library)
            code = "import fdroute; print(fdroute.__version__, open('/proc/self/maps').read().count(%r))" % library
            environment = {"FDROUTE_LIBRARY": "", "PYTHONPATH": folder}
            self.assertEqual(self.run_python(code, **environment).stdout.split()[0], fdroute.__version__)


class Documentation(unittest.TestCase):
    def test_docs_python(self) -> None:
        """The snippet of docs/python.md runs, on what it takes for granted."""
        page = (MODEL.parents[1] / "docs" / "python.md").read_text()
        snippet = page.split("```python\n")[1].split("```")[0]
        given = {
            "calibration_logits": RANDOM.normal(0, 1, (200, 64)),
            "logits": RANDOM.normal(0, 1, (2, 3, 64)).astype("f4"),
            "p": [0.001, 0.2, 0.03],
        }
        exec(snippet, given)
        self.assertEqual(given["ids"].shape, (2, 3, 16))
        self.assertEqual(given["dense"].weights.shape, (2, 3, 64))
        self.assertEqual(given["csr"].offsets[-1], 48)
        self.assertEqual(given["reject"].tolist(), [True, False, True])


if __name__ == "__main__":
    unittest.main()
