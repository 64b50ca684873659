"""Owns the words of Tarnwick, an invented town: what can fill a slot, what a lookup can say.

Numbers always have two digits, so that each is one token, and always carry their noun
(``desk 14``), so that two numbers cannot be mistaken for one another. Must not know: intents.
"""

NUMBERS = tuple(str(n) for n in range(10, 100))


def numbered(noun: str) -> tuple[str, ...]:
    """``noun 10`` to ``noun 99``."""
    return tuple(f"{noun} {n}" for n in NUMBERS)


def coded(noun: str) -> tuple[str, ...]:
    """``noun B10`` to ``noun T99``: a short id of a letter and a number."""
    return tuple(f"{noun} {letter}{n}" for letter in "BDFKMPRT" for n in NUMBERS)


def counted(unit: str, first: int, last: int, step: int) -> tuple[str, ...]:
    """``first unit`` to ``last unit`` in steps."""
    return tuple(f"{n} {unit}" for n in range(first, last + 1, step))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# What people ask about.
PLACES = _words(
    "library museum pool theatre market harbour workshop observatory greenhouse archive"
)
ITEMS = _words("lamp kettle chair tent drill camera violin ladder blanket mirror radio globe")
DISTRICTS = _words(
    "Oldbridge Fernhill Saltmarsh Larkside Stonecross Willowend Copperlane Highmoor Reedwater"
)
ISLANDS = _words("Skerrin Undel Morva Tolsay Brenna Hesk Ivora Quillan")
VEHICLES = _words("bicycle tandem scooter canoe kayak rowboat sled wagon")
PAPERS = _words("permit licence certificate badge voucher deed passbook charter")
RUBBISH = _words("glass paper metal wood plastic fabric batteries paint")
COURSES = _words("pottery weaving sailing chess drawing baking carpentry singing")
DISHES = _words("soup stew pancake dumpling salad pie curry omelette")
ANIMALS = _words("otter heron lynx badger tortoise falcon hedgehog seal")
PLANTS = _words("rose fern basil tulip ivy maple lavender cactus")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words(
    "January February March April May June July August September October November December"
)

# What the answers say.
MORNINGS = _words("07:00 07:30 08:00 08:30 09:00 09:30 10:00 10:30 11:00 11:30")
EVENINGS = _words("16:00 16:30 17:00 17:30 18:00 18:30 19:00 19:30 20:00 21:00")
TIMES = MORNINGS + EVENINGS
PRICES = counted("crowns", 11, 48, 3)
MINUTES = counted("minutes", 15, 75, 5)
DAY_COUNTS = counted("days", 10, 30, 2)
COLOURS = _words("red blue green amber violet white silver brown")
SIDES = ("left", "right")
FOODS = _words("clover minnows berries acorns oats lettuce worms shrimps")
EXTRAS = _words("rice bread noodles beans cheese peas mushrooms carrots")
LIGHTS = ("full sun", "half shade", "deep shade", "morning light", "evening light")
GOODS = _words("apron gloves notebook pencil towel scarf whistle candle")


def places_numbered(noun: str) -> tuple[str, ...]:
    """``noun 12`` to ``noun 48`` in threes: desks, rooms and shelves a lookup can name."""
    return tuple(f"{noun} {n}" for n in range(12, 49, 3))
