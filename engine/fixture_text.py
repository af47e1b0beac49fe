"""The text that fixtures speak, and the tokenizer that is trained on it.

Knows how Qwen's tokenizer is written into a GGUF; knows nothing of models.
"""

from gguf import GGUFWriter, TokenType

from engine.bpe import SPECIAL, train_bpe
from engine.chat import CHATML

TEXT = """\
A claim is only worth as much as the test that could have refuted it. The test runs, the answer
is written down, and the next reader can see what was asked, what was found and what was expected.
If the test could not have failed, then nothing was learned, however green the light was. This is
an old rule of logic: if the claim were true, we would see the result; we do not see the result;
therefore the claim is not true. The other way round does not hold. A thousand white swans do not
prove that all swans are white, but one black swan shows that they are not.

The model reads the words of the user and writes the words of the assistant, one token at a time.
Each token is looked up in a table, and becomes a row of numbers. Each layer mixes the rows that
came before, and then sends each row to a few of its experts. The router decides which experts
are asked, and how much each of them counts. At the end the row is compared with every word that
the model knows, and the best one is written. Then the model starts again with one more word.

What is the capital of France? The capital of France is Paris. How many days are there in a week?
There are seven days in a week. Write a Python function to compute the nth Fibonacci number. You
are a helpful assistant. Hello, how are you today? I am well, thank you. What can I do for you?

def fibonacci(n: int) -> int:
    \"\"\"Return the nth Fibonacci number.\"\"\"
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def is_prime(number: int) -> bool:
    if number < 2:
        return False
    for divisor in range(2, int(number ** 0.5) + 1):
        if number % divisor == 0:
            return False
    return True


class Stack:
    def __init__(self) -> None:
        self.items = []

    def push(self, item: object) -> None:
        self.items.append(item)

    def pop(self) -> object:
        if not self.items:
            raise IndexError("pop from an empty stack")
        return self.items.pop()


def count_words(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in text.lower().split():
        counts[word] = counts.get(word, 0) + 1
    return counts


if __name__ == "__main__":
    print([fibonacci(n) for n in range(10)])
    print([number for number in range(50) if is_prime(number)])
    print(count_words("the quick brown fox jumps over the lazy dog and the cat"))
"""


def train_tokenizer(size: int) -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level BPE trained on `TEXT`; the special tokens come last."""
    return train_bpe([TEXT], size)


def add_tokenizer(writer: GGUFWriter, tokens: list[str], merges: list[str], size: int) -> None:
    """Write the tokenizer and ChatML; unused tokens fill the vocabulary up to `size`."""
    first = len(tokens) - len(SPECIAL)
    ids = {token: first + place for place, token in enumerate(SPECIAL)}
    padding = [f"[PAD{index}]" for index in range(len(tokens), size)]
    types = [TokenType.NORMAL] * first + [TokenType.CONTROL] * len(SPECIAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens + padding)
    writer.add_token_types(types + [TokenType.UNUSED] * len(padding))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
