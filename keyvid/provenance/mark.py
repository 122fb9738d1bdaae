"""The mark of made media: an XMP packet with IPTC's digital source type, as platforms read it."""

import re

MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
TAG = "DIGITAL_SOURCE_TYPE"  # Matroska has no place for XMP: the same value in a tag of this name

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:keyvid="urn:keyvid:1.0/">
   <Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
   <xmp:CreatorTool>keyvid</xmp:CreatorTool>{receipt}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
_RECEIPT = re.compile(r"<keyvid:receipt>(.*?)</keyvid:receipt>", re.DOTALL)


def xmp_packet(receipt: str | None = None) -> bytes:
    """The packet, in UTF-8.

    Args:
        receipt: to put into it, for files that have no other place; without <, > and &.
    """
    element = "" if receipt is None else f"\n   <keyvid:receipt>{receipt}</keyvid:receipt>"
    return _PACKET.format(source=MADE_BY_A_MODEL, receipt=element).encode()


def is_marked(text: str) -> bool:
    """Whether an XMP packet, or a tag, says that a model made the media."""
    return MADE_BY_A_MODEL in text


def receipt_in(packet: str) -> str | None:
    """The receipt in an XMP packet, None where there is none."""
    found = _RECEIPT.search(packet)
    return found[1] if found else None
