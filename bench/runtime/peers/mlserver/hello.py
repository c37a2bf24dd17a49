"""MLServer: its documented setting for light models, no parallel workers."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Hello(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        numbers = NumpyCodec.decode_input(payload.inputs[0])
        total = ResponseOutput(name="sum", shape=[1], datatype="FP64", data=[float(numbers.sum())])
        return InferenceResponse(model_name=self.name, outputs=[total])
