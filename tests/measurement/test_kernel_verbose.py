"""Names of kernels read from lines that oneDNN 3.12 and MKL 2024.2 printed, and from others."""

from __future__ import annotations

import pytest

from profiler_service.measurement.kernel_verbose import (
    MAX_NAME_CHARS,
    MAX_NAMES,
    join_kernels,
    read_kernel,
)

HEADER = """\
onednn_verbose,v1,info,oneDNN v3.12.0 (commit 80afa71049cd69a3df32adcccb623b12cd7baa22)
onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with Intel DL Boost and bfloat16 support
onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,prop_kind,\
memory_descriptors,attributes,auxiliary,problem_desc,exec_time
onednn_verbose,v1,graph,info,template:operation,engine,partition_id,partition_kind,op_names
"""
LINEAR = (
    "onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx512_core_bf16,undef,"
    "src:bf16::blocked:ab::f0 wei:bf16::blocked:ba::f0 dst:bf16::blocked:ab::f0,"
    "attr-scratchpad:user,,16x317:317x1197,0.0410156\n"
)
PACKED_CONV = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,brg_conv_fwd:avx512_core,forward_training,"
    "src:f32::blocked:acdb::f0 wei:f32:a:blocked:Acdb48a::f0 bia:f32:a:blocked:a::f0"
    " dst:f32::blocked:acdb::f0,attr-scratchpad:user,alg:convolution_direct,"
    "mb16_ic40oc40_ih32oh32kh3sh1dh0ph1_iw32ow32kw3sw1dw0pw1,0.172852\n"
)
REORDER = (
    "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32::blocked:abcd::f0"
    " dst:f32:p:blocked:aBcd16b::f0,attr-scratchpad:user,,2x17x28x28,0.0090332\n"
)
CONV = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx512_core,forward_training,"
    "src:f32:ap:blocked:aBcd16b::f0 wei:f32:ap:blocked:ABcd16b16a::f0 bia:f32:a:blocked:a::f0"
    " dst:f32:ap:blocked:aBcd16b::f0,attr-scratchpad:user,alg:convolution_direct,mb2,0.172852\n"
)
LSTM = (
    "onednn_verbose,v1,primitive,exec,cpu,rnn,brgemm:avx512_core,forward_inference,"
    "src_layer:f32::blocked:abc::f0 src_iter:f32::blocked:abcd::f0"
    " wei_layer:f32:ap:blocked:abdEc32e::f0 wei_iter:f32:ap:blocked:abdcE32e::f0"
    " bias:f32::blocked:abcd::f0 dst_layer:f32::blocked:abc::f0,attr-scratchpad:user,"
    "alg:vanilla_lstm direction:unidirectional_left2right,l1t3mb16sic70slc60dhc70dic70,0.0300293\n"
)
MKL_HEADER = (
    "MKL_VERBOSE oneMKL 2024.0 Update 2 Product build 20240605 for Intel(R) 64 architecture"
    " Intel(R) Architecture processors, Lnx 2.60GHz lp64 gnu_thread\n"
)
SGEMM = (
    "MKL_VERBOSE SGEMM(T,N,1197,16,317,0x7ffea9742820,0x7fa041cb7040,317,0x55eefc367940,317,"
    "0x7ffea9742840,0x55eefc45eec0,1197) 182.89us CNR:OFF Dyn:0 FastMM:1 TID:0  NThr:1\n"
)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (HEADER + LINEAR, "matmul brg_matmul:avx512_core_bf16"),
        (PACKED_CONV, "convolution brg_conv_fwd:avx512_core (weights Acdb48a)"),
        (
            # The image and the weights are rearranged before, and the result is afterwards.
            REORDER + REORDER + CONV + REORDER,
            "reorder jit:uni + convolution jit:avx512_core (weights ABcd16b16a) + reorder jit:uni",
        ),
        (LSTM, "rnn brgemm:avx512_core (weights abdEc32e, abdcE32e)"),
        (MKL_HEADER + SGEMM, "MKL SGEMM(T,N)"),
        (
            "MKL_VERBOSE SGEMM_COMPUTE(P,N,300,16,317,0x1,317,0x2,317) 9us CNR:OFF\n",
            "MKL SGEMM_COMPUTE(P,N)",
        ),
        ("MKL_VERBOSE GEMM_BF16BF16F32(N,T,1,2) 9us\n", "MKL GEMM_BF16BF16F32(N,T)"),
        ("MKL_VERBOSE SAXPY(300,0x1,0x2,1,0x3,1) 9us\n", "MKL SAXPY"),
        # What earlier versions of oneDNN wrote.
        (
            "dnnl_verbose,exec,cpu,matmul,gemm:jit,undef,src_f32::blocked:ab:f0,,,1x2:2x3,0.1\n",
            "matmul gemm:jit",
        ),
        (
            "onednn_verbose,primitive,exec,cpu,matmul,jit_int8:avx512_core_vnni,undef,src:s8,,,,1\n",
            "matmul jit_int8:avx512_core_vnni",
        ),
        # With timestamps: ONEDNN_VERBOSE_TIMESTAMP.
        (
            "onednn_verbose,v1,1693.5,primitive,exec,cpu,matmul,gemm:jit,undef,src:f32,,,1x2,0.1\n",
            "matmul gemm:jit",
        ),
    ],
)
def test_a_call_s_kernels(printed: str, expected: str) -> None:
    assert read_kernel(printed) == expected


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "\n",
        "hello from a builder\n",
        HEADER,
        MKL_HEADER,
        "onednn_verbose,v1,primitive,exec\n",
        "onednn_verbose,v1,primitive,exec,cpu,matmul\n",
        "onednn_verbose,v1,primitive,create:cache_miss,cpu,matmul,gemm:jit,undef,src,,,1x2,0.1\n",
        "onednn_verbose,v1,graph,exec,cpu,100002,matmul_post_ops,op,src,,fpm:strict,sdp,dnnl,0.1\n",
        "onednn_verbose\n",
        "MKL_VERBOSE \n",
        "MKL_VERBOSE FFT\n",
        "say MKL_VERBOSE SGEMM(T,N,1)\n",
        "\x00\x01\x02,,,,,,,,,,,\n",
    ],
)
def test_lines_that_name_no_kernel(printed: str) -> None:
    assert read_kernel(printed) == ""
    assert read_kernel(printed + LINEAR + printed) == "matmul brg_matmul:avx512_core_bf16"


def test_an_operand_without_a_layout_is_passed_over() -> None:
    line = "onednn_verbose,v1,primitive,exec,cpu,matmul,gemm:jit,undef,wei:f32:any wei,,,1x2,0.1\n"
    assert read_kernel(line) == "matmul gemm:jit"


def test_how_often_two_kernels_take_turns_changes_nothing() -> None:
    assert join_kernels(["a", "b"] * 4) == join_kernels(["a", "b"] * 2000) == "a + b"
    # Three turns of two kernels can be told from two.
    assert join_kernels(["a", "b"] * 3) == "a + b + a + b + a + b"
    assert join_kernels(["a"] * 70) == "a"


def test_a_call_of_many_kernels_says_how_many_more_there_are() -> None:
    names = [f"kernel {n}" for n in range(MAX_NAMES + 3)]
    assert join_kernels([*names, *names]) == " + ".join(names[:MAX_NAMES]) + " and 3 more"
    assert join_kernels(names[:MAX_NAMES]) == " + ".join(names[:MAX_NAMES])


def test_a_name_can_be_stored_and_printed() -> None:
    assert join_kernels(["a\x00b\x1b[1m"]) == "a?b?[1m"
    assert len(join_kernels(["x" * 5000])) == MAX_NAME_CHARS
    assert join_kernels(["x" * 5000]).endswith("x…")
    assert join_kernels(["x" * MAX_NAME_CHARS]) == "x" * MAX_NAME_CHARS
