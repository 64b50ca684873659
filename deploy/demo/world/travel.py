"""Owns the intents about ferries, islands and hired vehicles.

Must not know: styles, the wording around a sentence of facts.
"""

from deploy.demo.world import pools as p
from deploy.demo.world.types import Intent, Lookup, parity

TRAVEL = (
    Intent(
        "ferry_time",
        {"island": p.ISLANDS, "day": p.DAYS},
        {"time": Lookup("island", p.MORNINGS)},
        (
            "When does the ferry to {island} leave on {day}?",
            "What time is the boat to {island} on {day}?",
            "On {day} I want to sail to {island}. When do we depart?",
            "Ferry time to {island} on {day}?",
        ),
        (
            "The ferry to {island} leaves at {time} on {day}.",
            "On {day} the boat to {island} departs at {time}.",
        ),
    ),
    Intent(
        "ferry_back",
        {"island": p.ISLANDS, "day": p.DAYS},
        {"time": Lookup("island", p.EVENINGS)},
        (
            "When does the last ferry come back from {island} on {day}?",
            "How late can I return from {island} on {day}?",
            "On {day}, what time is the last boat home from {island}?",
            "Last return from {island} on {day}?",
        ),
        (
            "The last ferry from {island} returns at {time} on {day}.",
            "On {day} the last boat home from {island} is at {time}.",
        ),
    ),
    Intent(
        "ferry_pier",
        {"island": p.ISLANDS, "month": p.MONTHS},
        {"pier": Lookup("island", p.places_numbered("pier"))},
        (
            "From which pier do boats to {island} leave in {month}?",
            "Where do I board for {island} in {month}?",
            "In {month}, which pier serves {island}?",
            "I travel to {island} in {month}. Where is the boat?",
        ),
        (
            "In {month} boats to {island} leave from {pier}.",
            "Board at {pier} for {island} in {month}.",
        ),
    ),
    Intent(
        "ferry_price",
        {"island": p.ISLANDS, "party": p.numbered("party")},
        {"price": Lookup("island", p.PRICES)},
        (
            "What does the ferry to {island} cost for {party}?",
            "How much does {party} pay to sail to {island}?",
            "{party} wants to go to {island}. What is the fare?",
            "Fare to {island} for {party}?",
        ),
        (
            "The fare of {party} to {island} is {price}.",
            "To sail to {island} costs {party} {price}.",
        ),
    ),
    Intent(
        "ferry_length",
        {"island": p.ISLANDS, "boat": p.coded("boat")},
        {"time": Lookup("island", p.MINUTES)},
        (
            "How long does {boat} take to {island}?",
            "How many minutes is the crossing to {island} on {boat}?",
            "I sail to {island} with {boat}. How long is the trip?",
            "Length of the crossing to {island} by {boat}?",
        ),
        (
            "The crossing to {island} on {boat} takes {time}.",
            "With {boat} you reach {island} in {time}.",
        ),
    ),
    Intent(
        "ferry_bag",
        {"bag": p.coded("bag"), "island": p.ISLANDS},
        {"colour": Lookup("island", p.COLOURS)},
        (
            "Which tag does {bag} need for {island}?",
            "What colour is the luggage tag to {island} for {bag}?",
            "I send {bag} to {island}. Which tag goes on it?",
            "Tag for {bag} to {island}?",
        ),
        (
            "Put a {colour} tag on {bag} to {island}.",
            "For {island} your {bag} needs a {colour} tag.",
        ),
    ),
    Intent(
        "ferry_seat",
        {"seat": p.numbered("seat"), "island": p.ISLANDS},
        {"side": Lookup("seat", p.SIDES, parity)},
        (
            "On which side is {seat} of the boat to {island}?",
            "Where do I find {seat} on the ferry to {island}?",
            "I sail to {island} in {seat}. Left or right?",
            "Is {seat} to {island} on the left or on the right?",
        ),
        (
            "On the boat to {island} {seat} is on the {side}.",
            "Sit on the {side} for {seat} to {island}.",
        ),
    ),
    Intent(
        "ferry_storm",
        {"island": p.ISLANDS, "trip": p.numbered("trip")},
        {"day": Lookup("island", p.DAYS)},
        (
            "A storm stopped {trip} to {island}. When does it sail instead?",
            "When is the cancelled {trip} to {island} made up?",
            "I booked {trip} to {island} but it was called off. What now?",
            "New day for {trip} to {island} after the storm?",
        ),
        (
            "After the storm {trip} to {island} sails on {day}.",
            "We moved {trip} to {island} to {day}.",
        ),
    ),
    Intent(
        "bus_line",
        {"district": p.DISTRICTS, "place": p.PLACES},
        {"line": Lookup("district", p.places_numbered("line"))},
        (
            "Which bus goes from {district} to the {place}?",
            "What line do I take from {district} to reach the {place}?",
            "I am in {district} and want to get to the {place} by bus.",
            "Bus from {district} to the {place}?",
        ),
        (
            "Take {line} from {district} to the {place}.",
            "From {district} the bus to the {place} is {line}.",
        ),
    ),
    Intent(
        "bus_interval",
        {"district": p.DISTRICTS, "day": p.DAYS},
        {"time": Lookup("district", p.MINUTES)},
        (
            "How often does a bus leave {district} on {day}?",
            "How long do I wait for a bus in {district} on {day}?",
            "On {day}, how frequent are buses in {district}?",
            "Bus interval in {district} on {day}?",
        ),
        (
            "On {day} a bus leaves {district} every {time}.",
            "Buses run every {time} in {district} on {day}.",
        ),
    ),
    Intent(
        "hire_price",
        {"vehicle": p.VEHICLES, "day": p.DAYS},
        {"price": Lookup("vehicle", p.PRICES)},
        (
            "What does it cost to hire a {vehicle} on {day}?",
            "How much is a {vehicle} for {day}?",
            "I would like to rent a {vehicle} on {day}. What is the price?",
            "Hire price of a {vehicle} on {day}?",
        ),
        ("To hire a {vehicle} on {day} costs {price}.", "On {day} a {vehicle} is {price}."),
    ),
    Intent(
        "hire_place",
        {"vehicle": p.VEHICLES, "month": p.MONTHS},
        {"district": Lookup("vehicle", p.DISTRICTS)},
        (
            "Where can I hire a {vehicle} in {month}?",
            "In {month}, which district rents out a {vehicle}?",
            "I need a {vehicle} in {month}. Where do I go?",
            "Where do you keep a {vehicle} for hire in {month}?",
        ),
        (
            "In {month} you can hire a {vehicle} in {district}.",
            "Go to {district} to hire a {vehicle} in {month}.",
        ),
    ),
    Intent(
        "hire_key",
        {"vehicle": p.VEHICLES, "booking": p.coded("booking")},
        {"hook": Lookup("vehicle", p.places_numbered("hook"))},
        (
            "Where is the key of my {vehicle}, {booking}?",
            "I booked a {vehicle} as {booking}. Where do I find the key?",
            "On which hook hangs the key for {booking}, a {vehicle}?",
            "Key for the {vehicle} of {booking}?",
        ),
        (
            "The {vehicle} key for {booking} hangs on {hook}.",
            "Look on {hook} for the {vehicle} key of {booking}.",
        ),
    ),
    Intent(
        "hire_helmet",
        {"vehicle": p.VEHICLES, "rider": p.numbered("rider")},
        {"colour": Lookup("vehicle", p.COLOURS)},
        (
            "Which helmet does {rider} wear on a {vehicle}?",
            "I am {rider} on a {vehicle}. Which helmet is mine?",
            "What colour is the helmet of {rider} for the {vehicle}?",
            "Helmet for {rider} with a {vehicle}?",
        ),
        (
            "On a {vehicle} the helmet of {rider} is {colour}.",
            "Give {rider} the {colour} helmet for a {vehicle}.",
        ),
    ),
)
