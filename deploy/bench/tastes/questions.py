"""Everyday questions, made from templates: some to be rated, others held out by their topic.

No wording asks for a form, so that a taste is learnt from thumbs alone. What is held out is about
nothing that was rated.
"""

from __future__ import annotations

import random

_DOING = (
    "clean a cast-iron pan", "get a coffee stain out of a shirt", "sharpen a kitchen knife",
    "keep bread fresh for longer", "cook rice that does not stick", "peel garlic quickly",
    "make a room feel warmer", "stop a door from squeaking", "hang a heavy mirror",
    "unclog a kitchen sink", "repair a flat bicycle tyre", "grow tomatoes on a balcony",
    "keep slugs away from lettuce", "water plants during a holiday", "prune a rose bush",
    "start a compost heap", "teach a dog to wait", "bring a cat to the vet",
    "wash a woollen jumper", "iron a linen shirt", "sew on a button",
    "pack for a week in one bag", "sleep on a night train", "find a cheap flight",
    "plan a birthday party", "write a thank-you note", "remember names", "learn to touch-type",
    "study for an exam", "get up earlier", "fall asleep faster", "drink more water",
    "begin to run", "stretch a stiff back", "prepare for a job interview", "ask for a pay rise",
    "run a meeting", "say no to a colleague", "tidy a crowded desk", "back up photos",
    "choose a strong password", "make a phone battery last", "slow down a fast talker",
    "save money on groceries", "split a bill among friends", "keep a household budget",
    "choose a first guitar", "tune a ukulele", "practise singing", "draw a face",
    "take photos at night", "read more books", "move house without stress",
    "paint a small room", "insulate an old window", "bake a moist cake", "season a soup",
    "brew better tea", "freeze fresh herbs", "roast vegetables",
)  # fmt: skip
_ABOUT_DOING = (
    "How do I {}?", "What is a good way to {}?", "I would like to {}. Where do I begin?",
    "My sister asked me how to {}. What do I tell her?", "Can you help me to {}?",
    "What do people get wrong when they try to {}?",
)  # fmt: skip
_HAVING = (
    "a second-hand bicycle", "a rain jacket",
    "a pressure cooker", "an electric kettle", "a house plant for a dark room", "running shoes",
    "a winter duvet", "a fountain pen", "a sourdough starter", "a garden hose",
    "a camping stove", "a pair of binoculars", "a wooden chopping board", "a desk lamp",
    "noise-cancelling headphones", "a library card", "a slow cooker", "a robot vacuum cleaner",
    "a dictionary", "a tent for two", "a hand-held mixer", "a paper map", "a smoke alarm",
    "a bread knife", "a backpack for school", "a used car", "a digital piano", "a bird feeder",
    "a wool blanket", "an herb garden",
)  # fmt: skip
_ABOUT_HAVING = (
    "What should I look for in {}?", "Is it worth having {}?",
    "A friend wants to give me {}. What do you think?", "What would I use {} for?",
)  # fmt: skip
_TROUBLE = (
    "My neighbour plays loud music at night", "My cat scratches the sofa",
    "The bread did not rise", "My basil keeps dying", "The washing smells musty",
    "My shoes are wet every morning", "The bathroom mirror always fogs up",
    "My bicycle chain keeps coming off", "The soup is too salty",
    "My child will not eat vegetables", "The train is late every day", "My laptop gets hot",
    "The fridge is noisy", "My flatmate never cleans", "The window sticks",
    "My eyes hurt in the evening", "The dog barks at the postman", "My plants have small flies",
    "The cake is burnt outside and raw inside", "My hands are dry in winter",
    "The lawn has brown patches", "My email inbox is full", "The radiator is cold at the top",
    "My neck is stiff after work", "The milk boiled over", "My shirt has shrunk",
    "The key is hard to turn", "My coffee tastes bitter", "The tap drips",
    "My suitcase is too heavy",
)  # fmt: skip
_ABOUT_TROUBLE = ("{}. What can I do?", "{}. Why is that?", "{}, and I am at a loss.")

_KINDS = ((_DOING, _ABOUT_DOING), (_HAVING, _ABOUT_HAVING), (_TROUBLE, _ABOUT_TROUBLE))
_PER_TOPIC = 3
MOST_HELD_OUT = 240
"""Of the 360 questions, three of each topic."""


def questions(seed: int, held_out: int) -> tuple[list[str], list[str]]:
    """Questions to be rated, and `held_out` others about other things; both in random order.

    Together they are 360, less what is left of the last topic that is held out.
    """
    rng = random.Random(f"questions {seed}")
    topics = [
        [form.format(topic) for form in rng.sample(forms, _PER_TOPIC)]
        for named, forms in _KINDS
        for topic in named
    ]
    rng.shuffle(topics)
    apart = -(-held_out // _PER_TOPIC)
    kept = [one for topic in topics[:apart] for one in topic][:held_out]
    rated = [one for topic in topics[apart:] for one in topic]
    return rng.sample(rated, len(rated)), rng.sample(kept, len(kept))
