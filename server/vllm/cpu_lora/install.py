"""Puts our LoRA arithmetic in the place of vLLM's on CPUs.

Owns what of vLLM is replaced and when; importing it loads neither vLLM nor torch. vLLM 0.32 on a
CPU is slow with adapters and wrong for base requests that share a batch with them.
"""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

SUPPORTED_VERSION = "0.32."
WRAPPER = "server.vllm.cpu_lora.wrapper.CpuLoraWrapper"


def install() -> bool:
    """Use `CpuLoraWrapper` for every engine that this process will start; True if it applies.

    Call it in each vLLM process before the model is loaded (vLLM's general plugins are). Calling
    it again changes nothing; so does calling it on another platform or another version of vLLM.
    """
    import vllm
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        logger.info("LoRA: vLLM's own kernels, the platform is %s", current_platform.device_type)
        return False
    if not vllm.__version__.startswith(SUPPORTED_VERSION):
        logger.warning(
            "LoRA: vLLM's own CPU code, the replacement is for %sx and this is %s",
            SUPPORTED_VERSION,
            vllm.__version__,
        )
        return False

    from vllm.platforms.cpu import CpuPlatform

    if CpuPlatform.get_punica_wrapper() != WRAPPER:
        CpuPlatform.get_punica_wrapper = classmethod(lambda cls: WRAPPER)
        _adopt_layers_when_mapped()
        logger.info("LoRA: segmented CPU arithmetic in place of vLLM %s's", vllm.__version__)
    return True


def _adopt_layers_when_mapped() -> None:
    """Hand each LoRA layer to our wrapper when vLLM ties the two together."""
    from vllm.lora.layers import BaseLayerWithLoRA

    stock = BaseLayerWithLoRA.set_mapping

    def set_mapping(self: BaseLayerWithLoRA, punica_wrapper: object) -> None:
        from server.vllm.cpu_lora.wrapper import CpuLoraWrapper

        stock(self, punica_wrapper)
        if isinstance(punica_wrapper, CpuLoraWrapper):
            punica_wrapper.adopt(self)

    BaseLayerWithLoRA.set_mapping = set_mapping
