"""The tokenizer of models trained on the synthetic world: byte-level BPE laid out as CLIP's."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from keyvid_ref.world import world

_PAD, _START, _END = "<|pad|>", "<|startoftext|>", "<|endoftext|>"
_CORPUS = (
    "a hammer strikes an anvil",
    "a ball bounces on the floor",
    "a stick hits a drum",
    "a shaker is shaken from side to side",
    "a mouth opens and closes",
    "a flower sways",
)


def make_tokenizer(vocab_size: int, context_length: int) -> Tokenizer:
    """A tokenizer that gives start, words, end and zeros, `context_length` tokens in all."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_PAD, _START, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*world.KINDS, *_CORPUS] * 10, trainer)
    start, end = tokenizer.token_to_id(_START), tokenizer.token_to_id(_END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=[(_START, start), (_END, end)]
    )
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(length=context_length, pad_id=0, pad_token=_PAD)
    return tokenizer
