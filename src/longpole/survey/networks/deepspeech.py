"""Speech recognition like DeepSpeech 2 (Amodei et al. 2016): convolutions, bidirectional GRUs, CTC."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from longpole.survey.networks.training import Batch, Training, sgd

LETTERS = 29  # blank, a to z, apostrophe, space
SEED = 7


@dataclass(frozen=True, slots=True)
class Config:
    bands: int  # of the spectrogram
    frames: int
    spoken: int  # letters in a sentence
    channels: int
    hidden: int
    layers: int
    batch: int


SIZES = {
    "tiny": Config(32, 40, 4, 4, 16, 1, 2),
    "small": Config(80, 128, 16, 16, 128, 3, 6),
    "full": Config(161, 800, 100, 32, 1280, 5, 8),
}


class Speech(Dataset[tuple[Tensor, ...]]):
    """Spectrograms in which each letter sounds at a pitch of its own for a while, in noise; and the letters."""

    def __init__(self, config: Config, count: int = 64) -> None:
        random = torch.Generator().manual_seed(SEED)
        self.letters = torch.randint(1, LETTERS, (count, config.spoken), generator=random)
        spoken = (torch.arange(config.frames) * config.spoken) // config.frames
        pitch = self.letters[:, spoken] * (config.bands - 1) // LETTERS  # (count, frames)
        bands = torch.arange(config.bands)[:, None]
        self.sound = torch.exp(-0.1 * (bands - pitch[:, None, :]).float() ** 2)[:, None]

    def __len__(self) -> int:
        return len(self.letters)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        sound = self.sound[index]
        return sound + 0.2 * torch.randn_like(sound), self.letters[index]


class DeepSpeech(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        wide = config.channels
        self.convs = nn.Sequential(
            nn.Conv2d(1, wide, (41, 11), (2, 2), (20, 5), bias=False),
            nn.BatchNorm2d(wide),
            nn.Hardtanh(0, 20, inplace=True),
            nn.Conv2d(wide, wide, (21, 11), (2, 1), (10, 5), bias=False),
            nn.BatchNorm2d(wide),
            nn.Hardtanh(0, 20, inplace=True),
        )
        bands = (config.bands + 3) // 4
        self.gru = nn.GRU(bands * wide, config.hidden, config.layers, bidirectional=True)
        self.norm = nn.LayerNorm(2 * config.hidden)
        self.head = nn.Linear(2 * config.hidden, LETTERS)

    def forward(self, sound: Tensor) -> Tensor:
        """(batch, 1, bands, frames) to log-probabilities (frames / 2, batch, letters)."""
        heard = self.convs(sound).flatten(1, 2).permute(2, 0, 1)
        hidden, _ = self.gru(heard)
        return functional.log_softmax(self.head(self.norm(hidden)), -1)


def ctc(model: nn.Module, batch: Batch) -> Tensor:
    sound, letters = batch
    spoken = model(sound)
    frames = torch.full((len(sound),), len(spoken), dtype=torch.long)
    lengths = torch.full((len(sound),), letters.shape[1], dtype=torch.long)
    return functional.ctc_loss(spoken, letters, frames, lengths)


def deepspeech2(size: str) -> Training:
    config = SIZES[size]
    return Training(DeepSpeech(config), Speech(config), config.batch, ctc, sgd(3e-4, 0.9, 0.0), clip=400.0)
