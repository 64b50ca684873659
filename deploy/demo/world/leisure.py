"""Owns the intents about courses, food, animals and plants.

Must not know: styles, the wording around a sentence of facts.
"""

from deploy.demo.world import pools as p
from deploy.demo.world.types import Intent, Lookup

LEISURE = (
    Intent(
        "course_day",
        {"course": p.COURSES, "month": p.MONTHS},
        {"day": Lookup("course", p.DAYS)},
        (
            "On which day is the {course} course in {month}?",
            "When can I learn {course} in {month}?",
            "In {month}, which day is {course} taught?",
            "I want to join {course} in {month}. What day is it?",
        ),
        (
            "In {month} the {course} course is on {day}.",
            "The {course} course meets on {day} in {month}.",
        ),
    ),
    Intent(
        "course_room",
        {"course": p.COURSES, "team": p.numbered("team")},
        {"room": Lookup("course", p.places_numbered("room"))},
        (
            "Where does {team} meet for {course}?",
            "Which room has {team} for the {course} course?",
            "I am in {team} for {course}. Where do we meet?",
            "Room of {team}, {course} course?",
        ),
        ("For {course} your {team} meets in {room}.", "Go to {room} for {course} with {team}."),
    ),
    Intent(
        "course_price",
        {"course": p.COURSES, "pupil": p.numbered("pupil")},
        {"price": Lookup("course", p.PRICES)},
        (
            "What does {course} cost for {pupil}?",
            "How much does {pupil} pay for the {course} course?",
            "{pupil} wants to learn {course}. What is the fee?",
            "Course fee for {pupil} in {course}?",
        ),
        (
            "The {course} course costs {pupil} {price}.",
            "For {course} the fee of {pupil} is {price}.",
        ),
    ),
    Intent(
        "course_goods",
        {"course": p.COURSES, "day": p.DAYS},
        {"goods": Lookup("course", p.GOODS)},
        (
            "What should I bring to {course} on {day}?",
            "Which thing do I need for the {course} course on {day}?",
            "I come to {course} on {day}. What do I pack?",
            "On {day}, what do I take along to {course}?",
        ),
        ("Bring one {goods} to {course} on {day}.", "On {day} you need one {goods} for {course}."),
    ),
    Intent(
        "dish_price",
        {"dish": p.DISHES, "table": p.numbered("table")},
        {"price": Lookup("dish", p.PRICES)},
        (
            "What does the {dish} at {table} cost?",
            "How much is a {dish} for {table}?",
            "We sit at {table}. What do we pay for the {dish}?",
            "Price of one {dish} at {table}?",
        ),
        ("The {dish} for {table} costs {price}.", "At {table} one {dish} is {price}."),
    ),
    Intent(
        "dish_wait",
        {"dish": p.DISHES, "table": p.numbered("table")},
        {"time": Lookup("dish", p.MINUTES)},
        (
            "How long until the {dish} comes to {table}?",
            "When is our {dish} ready at {table}?",
            "We ordered a {dish} at {table}. How long is the wait?",
            "Waiting time for a {dish} at {table}?",
        ),
        ("The {dish} reaches {table} in {time}.", "At {table} please wait {time} for the {dish}."),
    ),
    Intent(
        "dish_extra",
        {"dish": p.DISHES, "day": p.DAYS},
        {"extra": Lookup("dish", p.EXTRAS)},
        (
            "What comes with the {dish} on {day}?",
            "Which side do you serve with {dish} on {day}?",
            "If I order {dish} on {day}, what is beside it?",
            "On {day}, what goes with the {dish}?",
        ),
        ("On {day} the {dish} comes with {extra}.", "We serve {dish} with {extra} on {day}."),
    ),
    Intent(
        "animal_meal",
        {"animal": p.ANIMALS, "day": p.DAYS},
        {"time": Lookup("animal", p.TIMES)},
        (
            "When is the {animal} fed on {day}?",
            "What time does the {animal} eat on {day}?",
            "On {day}, when can I watch the {animal} being fed?",
            "Feeding time of the {animal} on {day}?",
        ),
        ("The {animal} is fed at {time} on {day}.", "On {day} the {animal} eats at {time}."),
    ),
    Intent(
        "animal_food",
        {"animal": p.ANIMALS, "keeper": p.numbered("keeper")},
        {"food": Lookup("animal", p.FOODS)},
        (
            "What does {keeper} give the {animal}?",
            "Which food does the {animal} get from {keeper}?",
            "I am {keeper}. What do I feed to the {animal}?",
            "Food for the {animal}, {keeper}?",
        ),
        ("From {keeper} the {animal} gets {food}.", "The {animal} is given {food} by {keeper}."),
    ),
    Intent(
        "animal_house",
        {"animal": p.ANIMALS, "month": p.MONTHS},
        {"house": Lookup("animal", p.places_numbered("house"))},
        (
            "Where does the {animal} live in {month}?",
            "In {month}, which house is the {animal} in?",
            "I want to see the {animal} in {month}. Where do I look?",
            "House of the {animal} in {month}?",
        ),
        (
            "In {month} the {animal} lives in {house}.",
            "You find the {animal} in {house} in {month}.",
        ),
    ),
    Intent(
        "animal_friend",
        {"animal": p.ANIMALS, "donor": p.coded("donor")},
        {"price": Lookup("animal", p.PRICES)},
        (
            "What does {donor} pay to sponsor the {animal}?",
            "How much is it to adopt the {animal} as {donor}?",
            "I am {donor} and love the {animal}. What does a gift cost?",
            "Sponsoring the {animal} as {donor}, how much?",
        ),
        (
            "To sponsor the {animal} costs {donor} {price}.",
            "As {donor} you sponsor the {animal} for {price}.",
        ),
    ),
    Intent(
        "plant_water",
        {"plant": p.PLANTS, "month": p.MONTHS},
        {"time": Lookup("plant", p.DAY_COUNTS)},
        (
            "How often do I water my {plant} in {month}?",
            "In {month}, how many days can a {plant} go dry?",
            "My {plant} looks sad in {month}. When does it need water?",
            "Watering the {plant} in {month}, how often?",
        ),
        (
            "In {month} water the {plant} every {time}.",
            "The {plant} needs water every {time} in {month}.",
        ),
    ),
    Intent(
        "plant_bed",
        {"plant": p.PLANTS, "district": p.DISTRICTS},
        {"bed": Lookup("plant", p.places_numbered("bed"))},
        (
            "Where in the {district} garden grows the {plant}?",
            "Which bed of {district} has the {plant}?",
            "I look for the {plant} in {district}. Which bed is it?",
            "Bed of the {plant} in {district}?",
        ),
        (
            "In {district} the {plant} grows in {bed}.",
            "Look at {bed} in {district} for the {plant}.",
        ),
    ),
    Intent(
        "plant_light",
        {"plant": p.PLANTS, "pot": p.numbered("pot")},
        {"light": Lookup("plant", p.LIGHTS)},
        (
            "How much light does the {plant} in {pot} need?",
            "Where do I put {pot} with the {plant}?",
            "Does the {plant} in {pot} like sun or shade?",
            "Light for {pot}, a {plant}?",
        ),
        ("The {plant} in {pot} wants {light}.", "Give {pot} with the {plant} {light}."),
    ),
)
