"""Nodes for ComfyUI: a picture and a sound to a video, in this process or on a keyvid-serve."""

from comfy_api.latest import ComfyExtension, io

from .nodes import Animate, AnimateOnServer


class KeyVID(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes."""
        return [Animate, AnimateOnServer]


async def comfy_entrypoint() -> KeyVID:
    """Called by ComfyUI when it starts."""
    return KeyVID()
