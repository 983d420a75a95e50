"""Apache TVM, as its ONNX front end compiles a file, untuned."""

from protocol import Run, serve


def load(model: str, _threads: int, _variant: str) -> Run:
    import onnx
    import tvm
    from tvm.relax.frontend.onnx import from_onnx

    compiled = tvm.compile(from_onnx(onnx.load(model), keep_params_in_input=False), target="llvm")
    main = tvm.relax.VirtualMachine(compiled, tvm.cpu())["main"]
    return lambda images: main(tvm.runtime.tensor(images)).numpy()


serve(load, "apache-tvm")
