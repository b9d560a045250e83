#!/usr/bin/env python
"""Make what is deployed out of a run: an encoder for cameras, a receiver for who gets their files.

From the OUTPUT_DIR of tools/train_net.py, its last checkpoint (a run that was only evaluated has
the weights of its config), come

  encoder.safetensors   analysis transforms and entropy model; tools/encode.py runs it in PyTorch
  receiver.safetensors  entropy model, synthesis transform and detector; tools/decode.py,
                        tools/detect.py
  decoder.safetensors   of a run that detects in latents (MODEL.CODEC.DECODED): the synthesis
                        transform, which its receiver does not have, for tools/decode.py
  encoder.onnx          with --onnx: the encoder for ONNX Runtime, which needs no PyTorch
  encoder_int8.onnx     with --int8 as well: the same in 8-bit integers, smaller and faster

The entropy model is frozen in integers, so that files decode to the same latents on any machine;
that its arithmetic is exact is proven from the weights and printed. Its fingerprint is in every
file: receivers refuse files of another. A run with a fixed decoder (E-FT, ET-FT) keeps the
fingerprint of the codec that it started from, so receivers that are out there decode what its
encoder writes, if it has the same coding scale and is exported with the same --sizes (tools/info.py
shows those of a model). No file holds code that runs when it is read.

The encoder shrinks pictures as the run did (MODEL.CODEC.SCALE). Of a codec of sequences, whose name
ends in -temporal, all have the model of predicted frames, too, and the encoder the key interval.

For 8 bits, --calibration names pictures like those that the camera will see, some dozen: what the
maps of its layers range over is found from them. Layers that would cost more than 1 % of rate times
error stay in float32, and are listed. The receiver is the same: the entropy model does not change.
"""

from __future__ import annotations

from command_line import picture_size, run_command, run_program

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from codec_det.bitstream.entropy import EntropyModel
    from codec_det.bitstream.expected import Expected
    from codec_det.bitstream.prediction import Prediction
    from codec_det.deploy.int8_encoder import Outcome
    from codec_det.runs import Run

ENCODER, RECEIVER, DECODER = "encoder.safetensors", "receiver.safetensors", "decoder.safetensors"
ONNX_ENCODER, INT8_ENCODER = "encoder.onnx", "encoder_int8.onnx"
EPILOG = """
examples:
  tools/export_model.py output/jft_R50 --output-dir deploy --onnx
  tools/encode.py pictures --model deploy/encoder.onnx --output-dir coded
  tools/detect.py coded --model deploy/receiver.safetensors --output-dir found
  in 8 bits for a small camera
  tools/export_model.py output/jft_R50 --output-dir deploy --onnx --int8 --calibration pictures
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN_FOLDER", help="OUTPUT_DIR of tools/train_net.py")
    add("--output-dir", type=Path, required=True, metavar="FOLDER", help="where the files go")
    add("--onnx", action="store_true", help=f"write {ONNX_ENCODER} as well (takes some seconds)")
    add("--int8", action="store_true", help=f"with --onnx: write {INT8_ENCODER} as well")
    add(
        "--calibration",
        type=Path,
        nargs="+",
        metavar="PICTURE|FOLDER",
        help="with --int8: pictures like those to be coded",
    )
    add(
        "--sizes",
        type=picture_size,
        nargs="+",
        metavar="WIDTHxHEIGHT",
        help="of the pictures that are expected: files of others are longer, by 4 bytes up to a "
        "side of 16383; part of the fingerprint (default: the usual ones of cameras, upright too)",
    )
    return parser


def describe_proof(entropy: EntropyModel, prediction: Prediction | None) -> str:
    """What is known of the exactness of frozen entropy models, in words."""
    if entropy.hyperprior is None:
        return "exact: one table per channel, and no arithmetic to choose it"
    transform = entropy.hyperprior.transform
    of_frames = ""
    if prediction is not None:
        of_frames = f", of the prediction of frames 2^{_exponent(prediction.partial_sums)}"
    return (
        "proven exact: no partial sum of the hyper-synthesis exceeds "
        f"2^{_exponent(entropy.partial_sums)}{of_frames}, and float64 is exact below 2^53\n"
        f"precision: {transform.weight_bits} fractional bits of weights, "
        f"{transform.activation_bits} of activations"
    )


def _exponent(partial_sums: Sequence[int]) -> str:
    # Rounded up: it is a bound.
    return f"{math.ceil(10 * math.log2(max(partial_sums))) / 10:.1f}"


def expect(sizes: Sequence[tuple[int, int]] | None) -> Expected:
    """What a model expects whose pictures have these heights and widths; None: the usual ones.

    Raises:
        ConfigError: if they are too many, too large, or one is there twice.
    """
    from codec_det.bitstream.expected import DEFAULT, Expected
    from codec_det.errors import ConfigError

    try:
        return Expected(tuple(sizes)) if sizes else DEFAULT
    except ValueError as error:
        raise ConfigError(f"--sizes: {error}") from None


def calibration_pictures(args: argparse.Namespace) -> list[Path]:
    """The pictures that 8 bits are calibrated with; none without --int8.

    Raises:
        CodecDetError: if options do not fit one another, or a picture is none.
    """
    from codec_det.data.image_io import SUFFIXES, read_size
    from codec_det.deploy.file_batch import find_files
    from codec_det.errors import CodecDetError

    if args.calibration and not args.int8:
        raise CodecDetError("--calibration is for encoders in 8 bits: give --onnx --int8 with it")
    if args.int8 and not (args.onnx and args.calibration):
        raise CodecDetError(
            "--int8 makes its encoder from that of --onnx, with pictures: give --onnx and "
            "--calibration with it"
        )
    pictures = find_files(args.calibration or (), SUFFIXES, "pictures").files
    for picture in pictures:
        read_size(picture)
    return pictures


def describe_quantization(outcome: Outcome) -> str:
    """What became of an encoder in 8 bits, in words."""
    left = ", ".join(outcome.float_layers) or "none"
    rate, error = (f"{factor - 1:+.1%}" for factor in (outcome.rate, outcome.error))
    return (
        f"8 bits: {', '.join(outcome.layers)}; layers in float: {left}\n"
        f"on {outcome.pictures} pictures: rate {rate}, squared error of decoded latents {error}"
    )


def export(
    run: Run, folder: Path, onnx: bool, expected: Expected, calibration: Sequence[Path] = ()
) -> str:
    """Write the files; what was written, in words.

    Args:
        expected: what files need not say of their pictures.
        calibration: pictures for an encoder in 8 bits; none: there is none.

    Raises:
        CodecDetError: if something cannot be exported.
    """
    from codec_det.codec.learned.freeze import freeze_prediction
    from codec_det.codec.table import find_codec
    from codec_det.deploy.frozen_run import load_frozen, rates_of
    from codec_det.deploy.int8_encoder import save_int8_encoder
    from codec_det.deploy.model_files import check_onnx_export, save_encoder, save_onnx_encoder
    from codec_det.deploy.receiver import save_decoder, save_receiver
    from codec_det.files import make_folder
    from codec_det.meta_arch import NoDetector

    if onnx:
        check_onnx_export()
    chain, entropy = load_frozen(run, expected)
    codec: Any = chain.codec
    prediction = None
    if find_codec(codec.name).predicts_frames:
        prediction = freeze_prediction(codec.name, codec.prediction, entropy)
    make_folder(folder, "--output-dir")
    rates = rates_of(run)
    save_receiver(folder / RECEIVER, chain, entropy, run.cfg, run.dataset, rates, prediction)
    save_encoder(folder / ENCODER, codec, entropy, rates, prediction)
    names = [ENCODER, RECEIVER]
    if chain.bridge is not None:
        save_decoder(folder / DECODER, chain, entropy, run.cfg, prediction)
        names.append(DECODER)
    notes = []
    if onnx:
        save_onnx_encoder(folder / ONNX_ENCODER, codec, entropy, rates, prediction)
        names.append(ONNX_ENCODER)
    if calibration:
        outcome = save_int8_encoder(folder / INT8_ENCODER, folder / ONNX_ENCODER, calibration)
        notes.append(describe_quantization(outcome))
        names.append(INT8_ENCODER)
    paths = [folder / name for name in names]
    widths = ", ".join(map(str, codec.widths))
    levels = f", {codec.levels} levels" * (codec.levels > 1) + ", gates" * codec.gated
    alone = isinstance(chain.detector, NoDetector)
    detector = "no detector" if alone else run.cfg.MODEL.DETECTOR.META_ARCHITECTURE
    return "\n".join(
        [
            f"{entropy.codec}, widths {widths}{levels}; {detector}",
            describe_proof(entropy, prediction),
            f"fingerprint: {entropy.fingerprint(entropy.version).hex()}",
            *notes,
            *(f"{path}: {path.stat().st_size / 1e6:.2f} MB" for path in paths),
        ]
    )


def export_run(args: argparse.Namespace) -> None:
    """Run the tool.

    Raises:
        CodecDetError: if the run cannot be exported.
    """
    from codec_det.deploy.frozen_run import open_deployable

    expected, calibration = expect(args.sizes), calibration_pictures(args)
    run = open_deployable(args.run)
    print(export(run, args.output_dir, args.onnx, expected, calibration))


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, export_run, argv)


if __name__ == "__main__":
    run_program(main)
