"""An LSTM language model: the medium one of Zaremba et al. 2014, two layers of 650, 35 steps in time."""

from __future__ import annotations

from torch import Tensor, nn

from longpole.survey.networks.next_token import next_token_loss
from longpole.survey.networks.texts import Crops
from longpole.survey.networks.training import Training, sgd

# (vocabulary, width, layers, length, batch)
SIZES = {"tiny": (256, 32, 2, 8, 2), "small": (4000, 256, 2, 35, 20), "full": (10_000, 650, 2, 35, 20)}


class LSTMLanguageModel(nn.Module):
    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=0.5)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.drop(self.embedding(tokens)))
        return self.head(self.drop(hidden))


def lstm_lm(size: str) -> Training:
    vocabulary, width, layers, length, batch = SIZES[size]
    model = LSTMLanguageModel(vocabulary, width, layers)
    return Training(model, Crops(vocabulary, length), batch, next_token_loss, sgd(1.0, 0.0, 0.0), clip=5.0)
