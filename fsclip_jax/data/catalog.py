"""The published data sets; sizes and templates are CoOp's (Zhou et al., IJCV 2022).

An entry is all that a new set of a known layout needs; class names in ``assets/classes`` bring the
published order where a source has another (``data.names``).
"""

from fsclip_jax.data.published import CoopFolder, KnownSet, Rn50Accuracies, TfdsBuilder
from fsclip_jax.errors import suggestion

_PER_CLASS = "Accuracy is over images, as in CoOp; CLIP's own paper gives the mean over classes."
_TEST_ONLY = "Test images only, for a classifier trained on ImageNet."
_DRIVE = "split JSON: the link in CoOp's DATASETS.md (github.com/KaiyangZhou/CoOp)"

KNOWN_SETS: tuple[KnownSet, ...] = (
    KnownSet(
        "imagenet",
        "ImageNet",
        1000,
        (1281167, 0, 50000),
        "Deng et al., ImageNet: A Large-Scale Hierarchical Image Database, CVPR 2009",
        "https://image-net.org (after registration)",
        CoopFolder("imagenet", "images", layout="imagenet"),
        TfdsBuilder("imagenet2012", "5.1.0", "{label}/{file_name}", note="download it by hand"),
        drawn_val=False,
        rule="wnid",
        aliases=("imagenet2012", "imagenet1k", "ilsvrc2012"),
        note="The official val images are test. Without val images: searched scalars are chosen on "
        "the shots.",
        in_ensemble=False,
        rn50=Rn50Accuracies(60.32, 62.01, 65.51, 63.82),
    ),
    KnownSet(
        "caltech101",
        "Caltech-101",
        100,
        (4128, 1649, 2465),
        "Fei-Fei et al., Learning Generative Visual Models from Few Training Examples, "
        "CVPR Workshops 2004",
        f"https://data.caltech.edu/records/mzrjq-6wc02; {_DRIVE}",
        CoopFolder("caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json"),
        TfdsBuilder("caltech101", "3.0.2", "{label}/{image/file_name}"),
        pooled=True,
        renames=(
            ("airplanes", "airplane"),
            ("Faces", "face"),
            ("Leopards", "leopard"),
            ("Motorbikes", "motorbike"),
        ),
        dropped=("BACKGROUND_Google", "Faces_easy"),
        note=_PER_CLASS,
        rn50=Rn50Accuracies(85.92, 90.18, 92.86, 92.55),
    ),
    KnownSet(
        "oxford_pets",
        "Oxford-IIIT Pets",
        37,
        (2944, 736, 3669),
        "Parkhi et al., Cats and Dogs, CVPR 2012",
        f"https://www.robots.ox.ac.uk/~vgg/data/pets (images.tar.gz); {_DRIVE}",
        CoopFolder("oxford_pets", "images", "split_zhou_OxfordPets.json"),
        TfdsBuilder(
            "oxford_iiit_pet", "4.0.0", "{file_name}", note="broken files are encoded anew"
        ),
        rule="lower",
        aliases=("oxford_iiit_pet", "pets", "oxfordiiitpet"),
        note=_PER_CLASS,
        template="a photo of a {}, a type of pet.",
        rn50=Rn50Accuracies(85.83, 88.14, 89.70, 88.81),
    ),
    KnownSet(
        "stanford_cars",
        "Stanford Cars",
        196,
        (6509, 1635, 8041),
        "Krause et al., 3D Object Representations for Fine-Grained Categorization, "
        "ICCV Workshops 2013",
        f"the authors' address is dead; mirrors have cars_train, cars_test; {_DRIVE}",
        CoopFolder("stanford_cars", "", "split_zhou_StanfordCars.json"),
        TfdsBuilder("cars196", "2.1.0", "cars_{split}/{id}.jpg", note="its address is dead"),
        rule="year first",
        aliases=("cars196", "cars"),
        rn50=Rn50Accuracies(55.74, 66.77, 75.74, 75.12),
    ),
    KnownSet(
        "oxford_flowers",
        "Oxford Flowers 102",
        102,
        (4093, 1633, 2463),
        "Nilsback and Zisserman, Automated Flower Classification over a Large Number of "
        "Classes, ICVGIP 2008",
        f"https://www.robots.ox.ac.uk/~vgg/data/flowers/102 (102flowers.tgz); {_DRIVE}",
        CoopFolder("oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json"),
        TfdsBuilder(
            "oxford_flowers102",
            "2.1.1",
            "{file_name}",
            spellings=(("pink-yellow dahlia?", "pink-yellow dahlia"), ("lotus", "lotus lotus")),
        ),
        pooled=True,
        aliases=("oxford_flowers102", "flowers102", "flowers"),
        note=_PER_CLASS,
        template="a photo of a {}, a type of flower.",
        rn50=Rn50Accuracies(66.02, 89.89, 94.80, 95.72),
    ),
    KnownSet(
        "food101",
        "Food-101",
        101,
        (50500, 20200, 30300),
        "Bossard et al., Food-101: Mining Discriminative Components with Random Forests, ECCV 2014",
        f"https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101; {_DRIVE}",
        CoopFolder("food-101", "images", "split_zhou_Food101.json"),
        TfdsBuilder("food101", "2.1.0", "{id}.jpg", note="2.0.0 does not name its images"),
        pooled=True,
        aliases=("food",),
        template="a photo of {}, a type of food.",
        rn50=Rn50Accuracies(77.32, 77.83, 79.43, 79.05),
    ),
    KnownSet(
        "fgvc_aircraft",
        "FGVC-Aircraft",
        100,
        (3334, 3333, 3333),
        "Maji et al., Fine-Grained Visual Classification of Aircraft, arXiv 1306.5151",
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft (data of fgvc-aircraft-2013b.tar.gz)",
        CoopFolder("fgvc_aircraft", "images", layout="aircraft"),
        aliases=("aircraft", "fgvc"),
        note=f"The split is the authors' own. {_PER_CLASS}",
        template="a photo of a {}, a type of aircraft.",
        rn50=Rn50Accuracies(17.10, 29.76, 35.55, 40.61),
    ),
    KnownSet(
        "sun397",
        "SUN397",
        397,
        (15880, 3970, 19850),
        "Xiao et al., SUN Database: Large-Scale Scene Recognition from Abbey to Zoo, CVPR 2010",
        f"https://vision.princeton.edu/projects/2010/SUN (SUN397.tar.gz); {_DRIVE}",
        CoopFolder("sun397", "SUN397", "split_zhou_SUN397.json"),
        TfdsBuilder(
            "sun397",
            "4.0.0",
            "{file_name}",
            "standard-part1-120k",
            "images are made smaller and encoded anew, so features differ",
        ),
        rule="path",
        rn50=Rn50Accuracies(58.52, 66.85, 71.47, 70.70),
    ),
    KnownSet(
        "dtd",
        "Describable Textures",
        47,
        (2820, 1128, 1692),
        "Cimpoi et al., Describing Textures in the Wild, CVPR 2014",
        f"https://www.robots.ox.ac.uk/~vgg/data/dtd (dtd-r1.0.1.tar.gz); {_DRIVE}",
        CoopFolder("dtd", "images", "split_zhou_DescribableTextures.json"),
        TfdsBuilder("dtd", "3.0.1", "{file_name}"),
        pooled=True,
        aliases=("describable_textures", "describabletextures", "textures"),
        template="{} texture.",
        rn50=Rn50Accuracies(42.20, 60.93, 66.55, 66.51),
    ),
    KnownSet(
        "eurosat",
        "EuroSAT",
        10,
        (13500, 5400, 8100),
        "Helber et al., EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and "
        "Land Cover Classification, JSTARS 2019",
        f"https://zenodo.org/records/7711810 (EuroSAT_RGB.zip, to be called 2750); {_DRIVE}",
        CoopFolder("eurosat", "2750", "split_zhou_EuroSAT.json"),
        TfdsBuilder("eurosat", "2.0.0", "{label}/{filename}", "rgb"),
        pooled=True,
        renames=(
            ("AnnualCrop", "Annual Crop Land"),
            ("HerbaceousVegetation", "Herbaceous Vegetation Land"),
            ("Highway", "Highway or Road"),
            ("Industrial", "Industrial Buildings"),
            ("Pasture", "Pasture Land"),
            ("PermanentCrop", "Permanent Crop Land"),
            ("Residential", "Residential Buildings"),
            ("SeaLake", "Sea or Lake"),
        ),
        template="a centered satellite photo of {}.",
        rn50=Rn50Accuracies(37.52, 70.54, 84.54, 86.12),
    ),
    KnownSet(
        "ucf101",
        "UCF101",
        101,
        (7639, 1898, 3783),
        "Soomro et al., UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild, "
        "arXiv 1212.0402",
        f"UCF-101-midframes.zip and {_DRIVE}",
        CoopFolder("ucf101", "UCF-101-midframes", "split_zhou_UCF101.json"),
        rule="capitals",
        note="One frame from the middle of each video. TFDS has the videos only.",
        template="a photo of a person doing {}.",
        rn50=Rn50Accuracies(61.35, 70.58, 78.03, 77.53),
    ),
    KnownSet(
        "imagenet_v2",
        "ImageNetV2",
        1000,
        (0, 0, 10000),
        "Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019",
        "https://github.com/modestyachts/ImageNetV2 (matched-frequency)",
        CoopFolder("imagenetv2", "imagenetv2-matched-frequency-format-val", layout="numbered"),
        TfdsBuilder("imagenet_v2", "3.0.0", "{file_name}", "matched-frequency"),
        rule="wnid",
        names_of="imagenet",
        aliases=("imagenetv2",),
        note=_TEST_ONLY,
    ),
    KnownSet(
        "imagenet_sketch",
        "ImageNet-Sketch",
        1000,
        (0, 0, 50889),
        "Wang et al., Learning Robust Global Representations by Penalizing Local Predictive "
        "Power, NeurIPS 2019",
        "https://github.com/HaohanWang/ImageNet-Sketch",
        CoopFolder("imagenet-sketch", "images", layout="wnid"),
        TfdsBuilder("imagenet_sketch", "1.0.0", "{file_name}"),
        rule="wnid",
        names_of="imagenet",
        note=_TEST_ONLY,
    ),
    KnownSet(
        "imagenet_a",
        "ImageNet-A",
        200,
        (0, 0, 7500),
        "Hendrycks et al., Natural Adversarial Examples, CVPR 2021",
        "https://github.com/hendrycks/natural-adv-examples",
        CoopFolder("imagenet-adversarial", "imagenet-a", layout="wnid"),
        TfdsBuilder("imagenet_a", "0.1.0", "{label}/{file_name}"),
        rule="wnid",
        names_of="imagenet",
        note=f"200 of ImageNet's classes. {_TEST_ONLY}",
    ),
    KnownSet(
        "imagenet_r",
        "ImageNet-R",
        200,
        (0, 0, 30000),
        "Hendrycks et al., The Many Faces of Robustness, ICCV 2021",
        "https://github.com/hendrycks/imagenet-r",
        CoopFolder("imagenet-rendition", "imagenet-r", layout="wnid"),
        TfdsBuilder("imagenet_r", "0.2.0", "{file_name}"),
        rule="wnid",
        names_of="imagenet",
        note=f"200 of ImageNet's classes. {_TEST_ONLY}",
    ),
    *(
        KnownSet(
            f"cifar{classes}",
            f"CIFAR-{classes}",
            classes,
            (40000, 10000, 10000),
            "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            "https://www.cs.toronto.edu/~kriz/cifar.html",
            tfds=TfdsBuilder(f"cifar{classes}", "3.0.2", "{id}"),
            note="val is a fifth of the official train images.",
        )
        for classes in (10, 100)
    ),
)
"""CoOp's eleven data sets and the four variants of ImageNet, in its order, and CIFAR."""


def find_known(name: str) -> KnownSet | None:
    """Return the published set of a name or of another spelling of it.

    What comes before a slash (a hub's user), case and punctuation do not matter.

    Example:
        >>> find_known("ethz/Food-101").title
        'Food-101'
    """
    spelled = {_bare(one): known for known in KNOWN_SETS for one in (known.name, *known.aliases)}
    return spelled.get(_bare(name.rpartition("/")[2]))


def find_builder(name: str) -> KnownSet | None:
    """Return the published set that a TFDS builder holds."""
    builder = name.partition("/")[0]
    return next((known for known in KNOWN_SETS if known.tfds and known.tfds.name == builder), None)


def name_hint(name: str) -> str:
    """Return ``; did you mean X?`` for a misspelt name, or an empty string."""
    return suggestion(name.lower(), [known.name for known in KNOWN_SETS])


def _bare(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
