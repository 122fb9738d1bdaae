"""AVSync, the judge behind RelSync: whether a sound and frames belong together in time.

Three networks, each under the key names of its folder in the release. None of them reads the size
of the pictures: the release shows it twelve frames at 6 fps, 224x224.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EMBED_DIM = 512  # of a sound, and of frames
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
_STD = (0.26862954, 0.26130258, 0.27577711)


def prepare_frames(frames: Tensor, height: int, width: int) -> Tensor:
    """What the judge is shown: squeezed to its size and normalised.

    Args:
        frames: (F, 3, H, W) float32 in [0, 1], RGB.
    Returns:
        (F, 3, height, width) float32; bicubic overshoot is not clipped.
    """
    resized = F.interpolate(frames, (height, width), mode="bicubic", antialias=True)
    mean, std = frames.new_tensor(_MEAN), frames.new_tensor(_STD)
    return (resized - mean[:, None, None]) / std[:, None, None]


def relsync(reference_score: Tensor, score: Tensor) -> Tensor:
    """How much better a clip fits than its reference, 0 to 1: 0.5 where both fit alike."""
    return torch.softmax(torch.stack([reference_score, score]), dim=0)[1]


class AVSyncAudio(nn.Module):
    """What happens in a sound: eight convolutions over the mel spectrogram, without residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        )
        self.block1 = AudioBlock(64, 64, stride=2)
        self.block2 = AudioBlock(64, 128, stride=2)
        self.block3 = AudioBlock(128, 256, stride=2)
        self.block4 = AudioBlock(256, EMBED_DIM, stride=1)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 1, mel_bins, mel_frames) normalised log mel to (B, 512)."""
        x: Tensor = self.conv1(mel)
        for block in (self.block1, self.block2, self.block3, self.block4):
            x = block(x)
        return x.mean(dim=(2, 3))


class AudioBlock(nn.Module):
    """Two convolutions, the first with the block's stride."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, bins, frames) to (B, C', bins / stride, frames / stride)."""
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


class AVSyncVideo(nn.Module):
    """What happens in frames: R(2+1)D with 18 layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(64),
            nn.ReLU(),
        )
        self.conv2x = _group(64, 64, stride=1)
        self.conv3x = _group(64, 128, stride=2)
        self.conv4x = _group(128, 256, stride=2)
        self.conv5x = _group(256, EMBED_DIM, stride=2)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, F, H, W) CLIP-normalised frames to (B, 512)."""
        x = F.max_pool3d(self.conv1(video), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for group in (self.conv2x, self.conv3x, self.conv4x, self.conv5x):
            x = group(x)
        return x.mean(dim=(2, 3, 4))


def _group(channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        VideoBlock(channels, out_channels, stride), VideoBlock(out_channels, out_channels, 1)
    )


class VideoBlock(nn.Module):
    """Two convolutions over space, each with one over time behind it, and the input added.

    The first of either kind has the block's stride.
    """

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.spt_conv1 = _over_space(channels, out_channels, stride)
        self.spt_bn1 = nn.BatchNorm3d(out_channels)
        self.tmp_conv1 = _over_time(out_channels, stride)
        self.tmp_bn1 = nn.BatchNorm3d(out_channels)
        self.spt_conv2 = _over_space(out_channels, out_channels, 1)
        self.spt_bn2 = nn.BatchNorm3d(out_channels)
        self.tmp_conv2 = _over_time(out_channels, 1)
        self.out_bn = nn.BatchNorm3d(out_channels)
        self.res_conv: nn.Module = nn.Identity()
        if stride > 1 or channels != out_channels:
            self.res_conv = nn.Conv3d(channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) to (B, C', F / stride, H / stride, W / stride)."""
        shortcut = self.res_conv(x)
        x = F.relu(self.spt_bn1(self.spt_conv1(x)))
        x = F.relu(self.tmp_bn1(self.tmp_conv1(x)))
        x = F.relu(self.spt_bn2(self.spt_conv2(x)))
        return F.relu(self.out_bn(self.tmp_conv2(x) + shortcut))


def _over_space(channels: int, out_channels: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(channels, out_channels, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)


def _over_time(channels: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)


class AVSyncHead(nn.Module):
    """How well a sound and frames fit, from what happens in each."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(2 * EMBED_DIM, 512),
            nn.ReLU(),
            nn.Dropout(),  # holds its place in the released key names
            nn.Linear(512, 256),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(256, 1),
        )

    def forward(self, audio_embedding: Tensor, video_embedding: Tensor) -> Tensor:
        """(B, 512) and (B, 512) to (B, 1) scores, any scale."""
        score: Tensor = self.fc(torch.cat([audio_embedding, video_embedding], dim=1))
        return score
