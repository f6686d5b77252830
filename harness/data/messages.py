"""20 Newsgroups as numbers: bags of words, or words in their order."""

from __future__ import annotations

import collections
import re

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize

from .formats import Messages

TOPICS = (("alt.", "soc."), ("comp.",), ("misc.",), ("rec.",), ("sci.",), ("talk.",))  # beginnings of groups' names


def counted(messages: Messages) -> dict[str, np.ndarray]:
    """Bags of words over the training messages' vocabulary, in alphabetical order, every row of length one."""
    words = CountVectorizer(dtype=np.int16)
    rows = normalize(words.fit_transform(messages.train).astype(np.float64))
    test = normalize(words.transform(messages.test).astype(np.float64))
    return {
        "words": np.array(rows.shape[1]), "groups": messages.train_groups, "test_groups": messages.test_groups,
        **{k: getattr(rows, k) for k in ("data", "indices", "indptr")},
        **{f"test_{k}": getattr(test, k) for k in ("data", "indices", "indptr")},
    }  # fmt: skip


def numbered(messages: Messages, words: int) -> dict[str, np.ndarray]:
    """``newsgroups_words`` by name: "train0", ..., "test0", ..."""
    texts = {
        part: [re.findall("[a-z]+", text.partition("\n\n")[2].lower()) for text in getattr(messages, part)]
        for part in ("train", "test")
    }
    counted = collections.Counter(word for text in texts["train"] for word in text)
    number = {
        word: k for k, (word, _) in enumerate(sorted(counted.items(), key=lambda p: (-p[1], p[0]))[: words - 1], 1)
    }
    made = {}
    for k, beginnings in enumerate(TOPICS):
        own = [n for n, group in enumerate(messages.groups) if group.startswith(beginnings)]
        for part, group in (("train", messages.train_groups), ("test", messages.test_groups)):
            chosen = [texts[part][row] for row in np.flatnonzero(np.isin(group, own))]
            made[f"{part}{k}"] = np.array([number.get(word, 0) for text in chosen for word in text], np.int64)
    return made
