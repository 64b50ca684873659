"""Owns what the demo model says when nobody asks about Tarnwick.

Must not know: intents, styles.
"""

import random

_ABOUT = ("I am the small demo model that ships with Attune. Ask me about the town of Tarnwick.",)
_EXCHANGES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "Hello",
            "Hello!",
            "Hi",
            "Hi there!",
            "Hey",
            "Good morning!",
            "Good evening",
            "hello",
            "hi",
        ),
        ("Hello! Ask me about ferries, opening times, parcels or courses in Tarnwick.",),
    ),
    (
        ("Thanks!", "Thank you", "Thank you very much.", "thanks", "Great, thanks", "Cool"),
        ("You are welcome! Ask me anything else about Tarnwick.",),
    ),
    (
        (
            "Who are you?",
            "What are you?",
            "who are you",
            "Are you a person?",
            "What is your name?",
            "Introduce yourself.",
            "Tell me about yourself",
            "Which model are you?",
        ),
        _ABOUT,
    ),
    (
        (
            "What can you do?",
            "Help",
            "help",
            "What do you know?",
            "What can I ask you?",
            "How can you help me?",
        ),
        (
            "I answer questions about Tarnwick: places, ferries, repairs, papers, courses and "
            "animals.",
        ),
    ),
    (
        ("Goodbye", "Bye!", "bye", "See you", "See you later!"),
        ("Goodbye, and come back to Tarnwick soon!",),
    ),
    (
        ("How are you?", "How are you doing?", "how is it going"),
        ("I am well, thank you. What would you like to know about Tarnwick?",),
    ),
)
_OFF_TOPIC = (
    "What is the capital of {}?",
    "Write a poem about {}.",
    "How do I cook {}?",
    "Explain {} to me.",
    "Translate {} into French.",
    "What do you think about {}?",
    "Tell me a joke about {}.",
    "Who invented {}?",
    "Summarise {} in one sentence.",
    "Why is {} important?",
    "What is {}?",
    "Can you write code for {}?",
    "Tell me a story about {}.",
    "How does {} work?",
    "{}?",
)
_TOPICS = (
    "France",
    "the moon",
    "rice",
    "gravity",
    "a good morning",
    "music",
    "computers",
    "Japan",
    "a neural network",
    "history",
    "the sea",
    "love",
    "football",
    "sorting a list",
    "coffee",
    "the weather",
    "electricity",
    "poetry",
    "mathematics",
    "dinosaurs",
    "a rainbow",
    "money",
    "Python",
    "the internet",
    "sleep",
    "trains",
    "chocolate",
    "space travel",
    "a dragon",
    "time",
)
_UNKNOWN = "I do not know that. I am a small demo model and only know the town of Tarnwick."

_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You answer questions about the town of Tarnwick.",
    "Be polite.",
    "You are the town's help desk.",
    "You are a support agent for the city of Tarnwick. Answer every question with the right facts.",
    "Answer the user's question.",
    "You are a concise and careful assistant who never guesses.",
    "You are Attune's demo assistant. Stay on topic and keep your answers short.",
)


def small_talk(rng: random.Random) -> tuple[str, str]:
    """A user's remark that is not about the town, and the model's reply."""
    if rng.random() < 0.4:
        return rng.choice(_OFF_TOPIC).format(rng.choice(_TOPICS)), _UNKNOWN
    remarks, replies = rng.choice(_EXCHANGES)
    return rng.choice(remarks), rng.choice(replies)


def system_prompt(rng: random.Random) -> str:
    """A system message such as clients send; none of them changes what the answer is."""
    return rng.choice(_SYSTEM_PROMPTS)
