"""Trains a student by TRL's GKD trainer, off-policy, and prints the seconds of each step as JSON.

Run by benchmarks/distill.py, by an interpreter that has trl: teacher and student are HF folders,
the batches a .npy of token ids [steps, B, T + 1].
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from datasets.table import InMemoryTable
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl.experimental.gkd import GKDConfig, GKDTrainer


class Clock(TrainerCallback):
    """When each step began and ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *given: object, **options: object) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, *given: object, **options: object) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def no_tokenizer() -> PreTrainedTokenizerFast:
    """The batches are ids already; the trainer wants something to ask for a padding id."""
    words = Tokenizer(WordLevel({"<none>": 0}, unk_token="<none>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<none>", eos_token="<none>", unk_token="<none>"
    )


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Windows as they are: every token but the first is a label."""
    ids = torch.tensor([row["ids"] for row in rows])
    nothing = ids[:, :0]
    found = {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}
    return found | {"prompts": nothing, "prompt_attention_mask": nothing}


def main() -> None:
    teacher, student, batches, rate, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    ids = np.load(Path(batches))  # [steps, B, T + 1]
    table = InMemoryTable.from_pydict({"ids": ids.reshape(-1, ids.shape[-1]).tolist()})
    rows = Dataset(table, fingerprint="batches")
    clock = Clock()
    with TemporaryDirectory() as out:
        config = GKDConfig(
            output_dir=out,
            lmbda=0.0,
            beta=0.0,  # KL(teacher || student)
            temperature=1.0,
            learning_rate=float(rate),
            lr_scheduler_type="constant",
            weight_decay=0.1,
            adam_beta2=0.95,
            max_grad_norm=1.0,
            per_device_train_batch_size=ids.shape[1],
            max_steps=ids.shape[0],
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        trainer = GKDTrainer(
            model=AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32),
            teacher_model=AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32),
            args=config,
            data_collator=collate,
            train_dataset=rows,
            processing_class=no_tokenizer(),
            callbacks=[clock],
        )
        trainer.get_train_dataloader = lambda: DataLoader(
            rows, batch_size=ids.shape[1], collate_fn=collate, shuffle=False
        )
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    versions = {"trl": trl.__version__, "transformers": transformers.__version__}
    print(json.dumps({"seconds": clock.seconds, "losses": losses, "versions": versions}))


if __name__ == "__main__":
    main()
