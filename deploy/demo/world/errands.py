"""Owns the intents about repairs, loans, parcels and papers.

Must not know: styles, the wording around a sentence of facts.
"""

from deploy.demo.world import pools as p
from deploy.demo.world.types import Intent, Lookup

ERRANDS = (
    Intent(
        "collect_item",
        {"item": p.ITEMS, "ticket": p.numbered("ticket")},
        {"desk": Lookup("item", p.places_numbered("desk"))},
        (
            "Where do I collect my {item} with {ticket}?",
            "I have {ticket} for a {item}. Which desk?",
            "My {item} is ready, {ticket}. Where do I pick it up?",
            "Which desk hands out the {item} for {ticket}?",
        ),
        (
            "Your {item} for {ticket} is ready at {desk}.",
            "Show {ticket} at {desk} to collect the {item}.",
        ),
    ),
    Intent(
        "return_item",
        {"item": p.ITEMS, "order": p.coded("order")},
        {"shelf": Lookup("item", p.places_numbered("shelf"))},
        (
            "How do I return the {item} from {order}?",
            "I want to send back a {item}, {order}.",
            "Where do I put the {item} of {order} to return it?",
            "The {item} in {order} does not suit me. Where does it go back?",
        ),
        (
            "To return {order} put the {item} on {shelf}.",
            "The {item} from {order} goes back on {shelf}.",
        ),
    ),
    Intent(
        "repair_time",
        {"item": p.ITEMS, "job": p.coded("job")},
        {"time": Lookup("item", p.DAY_COUNTS)},
        (
            "How long does the repair of my {item} take, {job}?",
            "When is the {item} of {job} mended?",
            "My {item} is in repair as {job}. How long will it be?",
            "How many days for {job}, fixing a {item}?",
        ),
        (
            "Mending the {item} in {job} takes {time}.",
            "For {job} the repair of a {item} takes {time}.",
        ),
    ),
    Intent(
        "repair_price",
        {"item": p.ITEMS, "day": p.DAYS},
        {"price": Lookup("item", p.PRICES)},
        (
            "What does it cost to repair a {item} on {day}?",
            "How much is a {item} repair on {day}?",
            "I bring a broken {item} on {day}. What will I pay?",
            "Price for fixing a {item} on {day}?",
        ),
        ("To repair a {item} on {day} costs {price}.", "On {day} fixing a {item} is {price}."),
    ),
    Intent(
        "loan_period",
        {"item": p.ITEMS, "card": p.coded("card")},
        {"time": Lookup("item", p.DAY_COUNTS)},
        (
            "For how long can I borrow a {item} with {card}?",
            "My {card} allows a {item} for how many days?",
            "When is a {item} lent on {card} due back?",
            "How many days may {card} keep the {item}?",
        ),
        (
            "With {card} you may keep the {item} for {time}.",
            "A {item} lent on {card} is yours for {time}.",
        ),
    ),
    Intent(
        "late_fee",
        {"item": p.ITEMS, "member": p.numbered("member")},
        {"price": Lookup("item", p.PRICES)},
        (
            "What is the late fee for a {item}, {member}?",
            "I am {member} and my {item} is overdue. What do I owe?",
            "How much does {member} pay for a late {item}?",
            "Fee for {member} with an overdue {item}?",
        ),
        (
            "The late fee of {member} for a {item} is {price}.",
            "For an overdue {item} we charge {member} {price}.",
        ),
    ),
    Intent(
        "deposit",
        {"item": p.ITEMS, "month": p.MONTHS},
        {"price": Lookup("item", p.PRICES)},
        (
            "How much deposit do I leave for a {item} in {month}?",
            "What is the deposit on a {item} in {month}?",
            "I want to hire a {item} in {month}. How high is the deposit?",
            "In {month}, what deposit do you take for a {item}?",
        ),
        (
            "In {month} the deposit for a {item} is {price}.",
            "The deposit on a {item} in {month} comes to {price}.",
        ),
    ),
    Intent(
        "delivery_day",
        {"order": p.coded("order"), "district": p.DISTRICTS},
        {"day": Lookup("district", p.DAYS)},
        (
            "When does {order} arrive in {district}?",
            "I live in {district}. When will I get {order}?",
            "On which day do you deliver {order} to {district}?",
            "Delivery day of {order} to {district}?",
        ),
        (
            "Delivery of {order} to {district} is on {day}.",
            "On {day} we bring {order} to {district}.",
        ),
    ),
    Intent(
        "delivery_price",
        {"item": p.ITEMS, "district": p.DISTRICTS},
        {"price": Lookup("district", p.PRICES)},
        (
            "What does it cost to send a {item} to {district}?",
            "How much is delivery of a {item} to {district}?",
            "I need a {item} brought to {district}. What is the charge?",
            "Delivery charge to {district} for a {item}?",
        ),
        (
            "Sending a {item} to {district} costs {price}.",
            "Delivery of the {item} to {district} is {price}.",
        ),
    ),
    Intent(
        "parcel_locker",
        {"parcel": p.coded("parcel"), "district": p.DISTRICTS},
        {"locker": Lookup("district", p.places_numbered("locker"))},
        (
            "Where in {district} is {parcel}?",
            "Which locker holds {parcel} in {district}?",
            "I missed {parcel} at home in {district}. Where is it now?",
            "Please tell me where {parcel} waits in {district}.",
        ),
        (
            "In {district} you find {parcel} in {locker}.",
            "Open {locker} in {district} to get {parcel}.",
        ),
    ),
    Intent(
        "gift_wrap",
        {"item": p.ITEMS, "order": p.numbered("gift")},
        {"colour": Lookup("item", p.COLOURS)},
        (
            "In which colour do you wrap a {item} as {order}?",
            "What wrapping does the {item} of {order} get?",
            "Can you wrap the {item} for {order}? In what colour?",
            "I ordered a {item}, {order}. Which wrapping paper is used?",
        ),
        (
            "We wrap the {item} of {order} in {colour}.",
            "A {item} sent as {order} comes wrapped in {colour}.",
        ),
    ),
    Intent(
        "paper_counter",
        {"paper": p.PAPERS, "district": p.DISTRICTS},
        {"counter": Lookup("paper", p.places_numbered("counter"))},
        (
            "Where do I get a {paper} if I live in {district}?",
            "Which counter issues a {paper} to people from {district}?",
            "I am from {district} and need a {paper}. Where do I go?",
            "Counter for a {paper}, {district}?",
        ),
        (
            "People from {district} get a {paper} at {counter}.",
            "Go to {counter} for a {paper} in {district}.",
        ),
    ),
    Intent(
        "paper_price",
        {"paper": p.PAPERS, "file": p.coded("file")},
        {"price": Lookup("paper", p.PRICES)},
        (
            "What does the {paper} in {file} cost?",
            "How much do I pay for a {paper}, {file}?",
            "I applied for a {paper} as {file}. What is the fee?",
            "Fee for {file}, a {paper}?",
        ),
        ("The {paper} in {file} costs {price}.", "For {file} the fee of a {paper} is {price}."),
    ),
    Intent(
        "paper_time",
        {"paper": p.PAPERS, "month": p.MONTHS},
        {"time": Lookup("paper", p.DAY_COUNTS)},
        (
            "How long does a {paper} take in {month}?",
            "I apply for a {paper} in {month}. When is it ready?",
            "How many days until I get a {paper} in {month}?",
            "In {month}, how long must I wait for a {paper}?",
        ),
        ("A new {paper} takes {time} in {month}.", "In {month} you wait {time} for a {paper}."),
    ),
    Intent(
        "paper_form",
        {"paper": p.PAPERS, "day": p.DAYS},
        {"form": Lookup("paper", p.places_numbered("form"))},
        (
            "Which form do I bring on {day} for a {paper}?",
            "I come on {day} to ask for a {paper}. Which form is it?",
            "What do I fill in for a {paper} on {day}?",
            "Form for a {paper} on {day}?",
        ),
        ("Bring {form} on {day} for a {paper}.", "For a {paper} please fill in {form} on {day}."),
    ),
    Intent(
        "paper_stamp",
        {"paper": p.PAPERS, "window": p.numbered("window")},
        {"colour": Lookup("paper", p.COLOURS)},
        (
            "Which stamp does {window} put on a {paper}?",
            "What colour is the stamp on a {paper} from {window}?",
            "At {window}, which stamp will my {paper} get?",
            "I had a {paper} stamped at {window}. What colour should it be?",
        ),
        (
            "At {window} a {paper} gets the {colour} stamp.",
            "The {colour} stamp of {window} goes on a {paper}.",
        ),
    ),
)
