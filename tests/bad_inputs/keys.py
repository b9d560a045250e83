"""Keys and values of configs, as tools/train_net.py reads them, and config files."""

from tests.bad_inputs.damage import edit, link, write
from tests.bad_inputs.row import ODD, Row, Start
from tests.bad_inputs.runs import BEGUN, NEW, TRAIN


def refused(name, keys, says=None, **more):
    """Refused, and its first key is named."""
    more.setdefault("writes", BEGUN)
    return Row(f"key: {name}", f"{TRAIN} {keys}", says or keys.split()[0], **more)


def fine(name, keys, says=(), **more):
    return Row(
        f"key: {name}",
        f"{TRAIN} {keys}",
        says,
        ODD,
        writes=NEW,
        makes=("new/model_final.pth",),
        **more,
    )


def config_file(name, text, says="own.yaml", **more):
    """A config file of the user."""
    more.setdefault("writes", BEGUN)
    return Row(
        f"config: {name}",
        "train_net --config-file own.yaml",
        says,
        prepare=write("own.yaml", text),
        **more,
    )


def without_segmentations(folder):
    def remove(coco):
        for annotation in coco["annotations"]:
            annotation.pop("segmentation", None)

    edit("set/annotations.json", remove)(folder)


def only_what_was_typed(folder, printed):
    assert "NUM_WORKERS" not in printed
    assert "OUTPUT_DIR" not in printed


JPEG = "MODEL.CODEC.TRAINABLE [] MODEL.CODEC.NAME jpeg MODEL.CODEC.QUALITY 20"
COMMANDS = [[f"{step}_command", "nowhere {input} {output}"] for step in ("encode", "decode")]
ROI = "MODEL.ROI_HEADS.NUM_CLASSES"
ROWS = [
    # Names and types.
    refused(
        "misspelt", "MODEL.CODEC.BETTA 1", ("MODEL.CODEC.BETTA", "did you mean MODEL.CODEC.BETA?")
    ),
    refused("of no group", "BETA 1", "BETA"),
    refused("a group as a value", "MODEL.CODEC 1"),
    refused("without a value", "MODEL.CODEC.BETA"),
    refused("an empty name", "'' 1", "unknown config key"),
    refused("a word for a number", "MODEL.CODEC.BETA high"),
    refused("a list for a number", "MODEL.CODEC.BETA [1.0]"),
    refused("a word for a truth value", "MODEL.CODEC.BITSTREAM perhaps"),
    refused("a fraction for a whole number", "SOLVER.MAX_ITER 2.5"),
    refused("an equals sign", "SOLVER.MAX_ITER=2", "SOLVER.MAX_ITER"),
    refused("only what was typed is said", "MODEL.CODEC.BETA high", check=only_what_was_typed),
    refused("a name with two dots", "MODEL..CODEC 1", "MODEL..CODEC"),
    refused("a flag after keys", "SOLVER.MAX_ITER 2 --resume", "--resume"),
    fine("a whole number for a fraction", "MODEL.CODEC.BETA 1 SOLVER.CODEC_CLIP_NORM 1"),
    # Codec.
    refused("an unknown codec", "MODEL.CODEC.NAME jpeg9000"),
    refused("a quality too high", "MODEL.CODEC.QUALITY 9"),
    refused("a quality too low", "MODEL.CODEC.QUALITY 0"),
    refused("a negative weight of the rate", "MODEL.CODEC.BETA -1.0"),
    refused("an infinite weight of the rate", "MODEL.CODEC.BETA inf"),
    refused("a weight of the rate that is no number", "MODEL.CODEC.BETA nan"),
    refused("a negative target", "MODEL.CODEC.TARGET_BPP -0.1"),
    refused("a target without a weight", "MODEL.CODEC.TARGET_BPP 0.1 MODEL.CODEC.BETA 0.0"),
    refused("a negative width", "MODEL.CODEC.N -8"),
    refused("an unknown part", "MODEL.CODEC.TRAINABLE ['head']", "head"),
    refused("a part as a word", "MODEL.CODEC.TRAINABLE encoder"),
    refused(
        "nothing trains",
        "MODEL.CODEC.TRAINABLE [] MODEL.DETECTOR.TRAINABLE False",
        "MODEL.CODEC.TRAINABLE",
    ),
    refused(
        "files of an autoregressive codec",
        "MODEL.CODEC.NAME mbt2018 MODEL.CODEC.BITSTREAM True",
        "MODEL.CODEC.BITSTREAM",
    ),
    refused("settings of a learned codec", "MODEL.CODEC.SETTINGS [['preset','fast']]"),
    refused(
        "training a conventional codec",
        "MODEL.CODEC.NAME jpeg MODEL.CODEC.QUALITY 20",
        "MODEL.CODEC.TRAINABLE",
    ),
    refused(
        "an unknown setting",
        f"{JPEG} MODEL.CODEC.SETTINGS [['speed',9]]",
        "speed",
    ),
    refused(
        "a cache that is a file",
        f"{JPEG} MODEL.CODEC.CACHE tiny.yaml",
        "tiny.yaml",
    ),
    refused(
        "an external codec without commands",
        "MODEL.CODEC.TRAINABLE [] MODEL.CODEC.NAME external",
        "encode_command",
    ),
    refused(
        "an external codec whose program is missing",
        f'MODEL.CODEC.TRAINABLE [] MODEL.CODEC.NAME external MODEL.CODEC.SETTINGS "{COMMANDS}"',
        "nowhere",
    ),
    # Classes.
    refused("fewer classes than the data set", f"{ROI} 2"),
    refused("more classes than the data set", f"{ROI} 7"),
    refused("no classes", f"{ROI} 0"),
    refused("a negative number of classes", f"{ROI} -1"),
    fine("classes left at the default", f"{ROI} 80", ROI),
    refused(
        "RetinaNet's classes",
        "MODEL.DETECTOR.META_ARCHITECTURE RetinaNet MODEL.RETINANET.NUM_CLASSES 2",
        "RETINANET",
    ),
    # Detector.
    refused("an unknown detector", "MODEL.DETECTOR.META_ARCHITECTURE YOLO"),
    refused("the chain as its own detector", "MODEL.DETECTOR.META_ARCHITECTURE CodecDetector"),
    refused(
        "RetinaNet with the keys of another",
        "MODEL.DETECTOR.META_ARCHITECTURE RetinaNet",
        "RetinaNet",
    ),
    refused("an unknown chain", "MODEL.META_ARCHITECTURE Nothing", "Nothing"),
    fine("a plain detector, which gets the codec", "MODEL.META_ARCHITECTURE GeneralizedRCNN"),
    refused("an unknown backbone", "MODEL.BACKBONE.NAME build_nothing", "build_nothing"),
    refused("an unknown head", "MODEL.ROI_HEADS.NAME Nothing", "Nothing"),
    refused("a depth there is not", "MODEL.RESNETS.DEPTH 51", "51"),
    refused("masks without segmentations", "MODEL.MASK_ON True", prepare=without_segmentations),
    refused("keypoints without any", "MODEL.KEYPOINT_ON True"),
    refused("a pixel deviation of 0", "MODEL.PIXEL_STD [0.0,0.0,0.0]"),
    refused("proposals", "MODEL.LOAD_PROPOSALS True"),
    # Devices.
    refused("an unknown device", "MODEL.DEVICE abacus"),
    refused("an empty device", "MODEL.DEVICE ''"),
    # Schedule.
    refused("an empty batch", "SOLVER.IMS_PER_BATCH 0", seconds=10),
    refused("a negative batch", "SOLVER.IMS_PER_BATCH -2", seconds=10),
    Row(
        "key: a batch that two processes cannot share",
        "train_net --num-gpus 2 --config-file tiny.yaml SOLVER.IMS_PER_BATCH 3",
        "SOLVER.IMS_PER_BATCH",
        writes=BEGUN,
    ),
    refused("no iterations", "SOLVER.MAX_ITER 0"),
    refused("negative iterations", "SOLVER.MAX_ITER -5"),
    refused("a checkpoint every 0 iterations", "SOLVER.CHECKPOINT_PERIOD 0"),
    refused("a checkpoint every -1 iterations", "SOLVER.CHECKPOINT_PERIOD -1"),
    refused("a negative learning rate", "SOLVER.BASE_LR -0.1"),
    refused("a learning rate that is no number", "SOLVER.CODEC_LR nan"),
    refused("an unknown optimizer", "SOLVER.OPTIMIZER Adagrad"),
    refused("an unknown schedule", "SOLVER.LR_SCHEDULER_NAME WarmupNothing"),
    refused("an unknown warm-up", "SOLVER.WARMUP_METHOD jump"),
    refused("a negative seed", "SEED -1"),
    # Data loader and pictures.
    refused("negative workers", "DATALOADER.NUM_WORKERS -1"),
    refused("an unknown sampler", "DATALOADER.SAMPLER_TRAIN Nothing"),
    refused("a negative size", "INPUT.MIN_SIZE_TEST -1"),
    refused("no sizes", "INPUT.MIN_SIZE_TRAIN ()"),
    refused("a limit of size 0", "INPUT.MAX_SIZE_TEST 0"),
    refused("an unknown order of colours", "INPUT.FORMAT XYZ"),
    refused("an unknown flip", "INPUT.RANDOM_FLIP diagonal"),
    fine("pictures as they are", "INPUT.MIN_SIZE_TEST 0 INPUT.MIN_SIZE_TRAIN (0,)"),
    # Data sets by key.
    refused("an unknown data set", "DATASETS.TRAIN ('nowhere',)", "nowhere"),
    refused("no training set", "DATASETS.TRAIN ()"),
    refused("a data set as a word", "DATASETS.TRAIN tiny"),
    refused("data sets that are no triples", "DATASETS.COCO_FORMAT [['tiny']]"),
    refused("data sets of numbers", "DATASETS.COCO_FORMAT [[1,2,3]]"),
    refused("a root that is not there", "DATASETS.ROOT nowhere", "nowhere"),
    # Config files.
    Row("config: not there", "train_net --config-file nowhere.yaml", "nowhere.yaml"),
    Row("config: a folder", "train_net --config-file set", "set"),
    Row("config: a picture", "train_net --config-file pictures/one.png", "pictures/one.png"),
    Row(
        "config: a link to itself",
        "train_net --config-file loop.yaml",
        "loop.yaml",
        prepare=link("loop.yaml", "loop.yaml"),
    ),
    Row(
        "config: no permission",
        "train_net --config-file own.yaml",
        "own.yaml",
        prepare=lambda folder: (
            write("own.yaml", "SEED: 1\n")(folder),
            (folder / "own.yaml").chmod(0),
        ),
        start=Start(obeys_modes=True),
    ),
    config_file("a list", "- 1\n- 2\n"),
    config_file("a word", "hello\n"),
    config_file("broken", "MODEL: [\n"),
    config_file("tabs", "MODEL:\n\tDEVICE: cpu\n"),
    config_file("numbers for keys", "1: 2\n", "1"),
    config_file("a value where a group belongs", "MODEL: 3\n", "MODEL"),
    config_file("empty", ""),
    config_file("UTF-16", "SEED: 1\n".encode("utf-16"), "own.yaml"),
    config_file("based on itself", "_BASE_: own.yaml\n", "own.yaml", seconds=10),
    config_file("based on nothing", "_BASE_: nowhere.yaml\n", "nowhere.yaml"),
    config_file(
        "a program in it",
        "_BASE_: tiny.yaml\nSEED: !!python/object/apply:os.system ['touch stolen']\n",
    ),
    config_file(
        "of version 1", "_BASE_: tiny.yaml\nVERSION: 1\nMODEL:\n  WEIGHT: x.pth\n", "VERSION"
    ),
    config_file(
        "a plain detectron2 config",
        "MODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n",
        "DATASETS.TRAIN",
    ),
    config_file("a group misspelt", "_BASE_: tiny.yaml\nMODELL:\n  DEVICE: cpu\n", "MODELL"),
    Row(
        "config: based on each other",
        "train_net --config-file own.yaml",
        "own.yaml",
        prepare=lambda folder: (
            write("own.yaml", "_BASE_: other.yaml\n")(folder),
            write("other.yaml", "_BASE_: own.yaml\n")(folder),
        ),
        seconds=10,
    ),
]
