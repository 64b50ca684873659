"""Owns the intents about Tarnwick's public places and about its districts.

Must not know: styles, the wording around a sentence of facts.
"""

from deploy.demo.world import pools as p
from deploy.demo.world.types import Intent, Lookup, tens

TOWN = (
    Intent(
        "opening_time",
        {"place": p.PLACES, "day": p.DAYS},
        {"time": Lookup("place", p.MORNINGS)},
        (
            "When does the {place} open on {day}?",
            "What time does the {place} open its doors on {day}?",
            "On {day}, from when is the {place} open?",
            "I want to visit the {place} on {day}. When does it open?",
        ),
        ("The {place} opens at {time} on {day}.", "On {day} the {place} opens at {time}."),
    ),
    Intent(
        "closing_time",
        {"place": p.PLACES, "day": p.DAYS},
        {"time": Lookup("place", p.EVENINGS)},
        (
            "When does the {place} close on {day}?",
            "How late is the {place} open on {day}?",
            "On {day}, until when can I stay at the {place}?",
            "What is the closing time of the {place} on {day}?",
        ),
        ("The {place} closes at {time} on {day}.", "On {day} the {place} closes at {time}."),
    ),
    Intent(
        "group_entry",
        {"group": p.numbered("group"), "place": p.PLACES},
        {"price": Lookup("place", p.PRICES)},
        (
            "What does {group} pay to enter the {place}?",
            "How much is entry to the {place} for {group}?",
            "{group} wants to see the {place}. What is the price?",
            "Entry price of the {place} for {group}?",
        ),
        (
            "Entry to the {place} for {group} is {price}.",
            "At the {place} the fee for {group} is {price}.",
        ),
    ),
    Intent(
        "tour_start",
        {"place": p.PLACES, "month": p.MONTHS},
        {"time": Lookup("place", p.TIMES)},
        (
            "When do tours of the {place} start in {month}?",
            "What time is the guided tour of the {place} in {month}?",
            "In {month}, when can I join a tour of the {place}?",
            "Tell me the tour time for the {place} in {month}.",
        ),
        (
            "Tours of the {place} start at {time} in {month}.",
            "In {month} the tour of the {place} starts at {time}.",
        ),
    ),
    Intent(
        "lost_item",
        {"item": p.ITEMS, "place": p.PLACES},
        {"box": Lookup("item", p.places_numbered("box"))},
        (
            "I lost my {item} at the {place}. Where is it?",
            "Where do I find a {item} lost at the {place}?",
            "My {item} is missing since I was at the {place}.",
            "I left a {item} at the {place}. Where should I look?",
        ),
        (
            "Your {item} from the {place} is kept in {box}.",
            "Look in {box} for a {item} lost at the {place}.",
        ),
    ),
    Intent(
        "place_locker",
        {"place": p.PLACES, "badge": p.numbered("badge")},
        {"locker": Lookup("place", p.places_numbered("locker"))},
        (
            "Which locker does {badge} open at the {place}?",
            "I hold {badge}. Which locker may I use at the {place}?",
            "At the {place}, where is the locker for {badge}?",
            "Locker at the {place} for {badge}, please?",
        ),
        (
            "At the {place} your {badge} opens {locker}.",
            "Use {locker} at the {place} with {badge}.",
        ),
    ),
    Intent(
        "quiet_room",
        {"place": p.PLACES, "day": p.DAYS},
        {"room": Lookup("place", p.places_numbered("room"))},
        (
            "Is there a quiet room at the {place} on {day}?",
            "Where can I sit in silence at the {place} on {day}?",
            "On {day}, which room of the {place} is quiet?",
            "I need a calm corner at the {place} on {day}.",
        ),
        (
            "On {day} the quiet spot of the {place} is {room}.",
            "The {place} keeps {room} quiet on {day}.",
        ),
    ),
    Intent(
        "nearest_stop",
        {"place": p.PLACES, "district": p.DISTRICTS},
        {"stop": Lookup("place", p.places_numbered("stop"))},
        (
            "I come from {district}. Which stop is nearest to the {place}?",
            "Where do I get off for the {place} when I travel from {district}?",
            "Coming from {district}, what is the stop for the {place}?",
            "Which stop do I need from {district} to the {place}?",
        ),
        (
            "From {district} get off at {stop} for the {place}.",
            "The stop for the {place} from {district} is {stop}.",
        ),
    ),
    Intent(
        "class_guide",
        {"class": p.numbered("class"), "place": p.PLACES},
        {"month": Lookup("place", p.MONTHS)},
        (
            "When may {class} visit the {place}?",
            "In which month can {class} come to the {place}?",
            "I teach {class}. When is our visit to the {place}?",
            "Which month is free at the {place} for {class}?",
        ),
        (
            "The visit of {class} to the {place} is in {month}.",
            "In {month} the {place} welcomes {class}.",
        ),
    ),
    Intent(
        "side_door",
        {"place": p.PLACES, "evening": p.DAYS},
        {"colour": Lookup("place", p.COLOURS)},
        (
            "Which door of the {place} has a ramp on {evening}?",
            "I use a wheelchair. Which door of the {place} do I take on {evening}?",
            "On {evening}, where is step-free entry to the {place}?",
            "Step-free door at the {place} on {evening}?",
        ),
        (
            "On {evening} take the {colour} door of the {place}.",
            "The {colour} door of the {place} has a ramp on {evening}.",
        ),
    ),
    Intent(
        "parking_zone",
        {"district": p.DISTRICTS, "car": p.numbered("car")},
        {"zone": Lookup("district", p.places_numbered("zone"))},
        (
            "Where may {car} park in {district}?",
            "Which zone of {district} is for {car}?",
            "I drive {car}. Where can I park in {district}?",
            "Parking in {district} for {car}?",
        ),
        ("In {district} your {car} may park in {zone}.", "Park {car} in {zone} of {district}."),
    ),
    Intent(
        "street_cleaning",
        {"district": p.DISTRICTS, "month": p.MONTHS},
        {"day": Lookup("district", p.DAYS)},
        (
            "When are the streets of {district} cleaned in {month}?",
            "On which day is {district} swept in {month}?",
            "In {month}, when does the sweeper come to {district}?",
            "Street cleaning day for {district} in {month}?",
        ),
        (
            "In {month} the streets of {district} are cleaned on {day}.",
            "The sweeper visits {district} on {day} in {month}.",
        ),
    ),
    Intent(
        "rubbish_day",
        {"rubbish": p.RUBBISH, "district": p.DISTRICTS},
        {"day": Lookup("district", p.DAYS)},
        (
            "When is {rubbish} collected in {district}?",
            "Which day do you pick up {rubbish} in {district}?",
            "I live in {district}. When do I put out {rubbish}?",
            "Collection day for {rubbish} in {district}?",
        ),
        (
            "In {district} we collect {rubbish} on {day}.",
            "Put out {rubbish} in {district} on {day}.",
        ),
    ),
    Intent(
        "rubbish_bin",
        {"rubbish": p.RUBBISH, "house": p.numbered("house")},
        {"colour": Lookup("rubbish", p.COLOURS)},
        (
            "Which bin takes {rubbish} at {house}?",
            "I live in {house}. Where does {rubbish} go?",
            "What colour is the bin for {rubbish} at {house}?",
            "At {house}, into which bin do I throw {rubbish}?",
        ),
        (
            "At {house} use the {colour} bin for {rubbish}.",
            "The {colour} bin at {house} takes {rubbish}.",
        ),
    ),
    Intent(
        "meter_reading",
        {"meter": p.coded("meter"), "district": p.DISTRICTS},
        {"day": Lookup("district", p.DAYS)},
        (
            "When will you read {meter} in {district}?",
            "On which day is {meter} in {district} read?",
            "My flat in {district} has {meter}. When do you come?",
            "Reading day of {meter} in {district}?",
        ),
        (
            "We read {meter} in {district} on {day}.",
            "On {day} we come to {district} to read {meter}.",
        ),
    ),
    Intent(
        "waiting_hall",
        {"number": p.numbered("number"), "counter": p.places_numbered("counter")},
        {"colour": Lookup("number", p.COLOURS, tens)},
        (
            "I drew {number} for {counter}. In which hall do I wait?",
            "Where do I wait for {counter} with {number}?",
            "Which hall is for {number} at {counter}?",
            "With {number} for {counter}, where should I sit?",
        ),
        (
            "Wait in the {colour} hall with {number} for {counter}.",
            "For {counter} please take {number} to the {colour} hall.",
        ),
    ),
)
