"""A scanner that asks a model for images that are not safe for work: python3 nsfw.py [--port 8090]

MODEL names a Python module with a function `score(image)`, which takes a Pillow image and returns a number from 0 (safe)
to 1. A module for a model of Hugging Face:

    from transformers import pipeline
    classify = pipeline("image-classification", model="Falconsai/nsfw_image_detection")

    def score(image):
        return next(found["score"] for found in classify(image) if found["label"] == "nsfw")

Images above THRESHOLD (0.9) are refused. Needs Pillow, and what the module needs.
"""
import importlib
import io
import os

from PIL import Image

from scanner import serve

THRESHOLD = float(os.environ.get("THRESHOLD", "0.9"))
# Loaded once, before the first image: uploads wait for `trust.scanner_timeout` at most.
MODEL = importlib.import_module(os.environ["MODEL"])
# The server has checked the size of the picture already.
Image.MAX_IMAGE_PIXELS = None


def judge(body, _content_type):
    image = Image.open(io.BytesIO(body))
    score = MODEL.score(image.convert("RGB"))
    return score <= THRESHOLD, f"score {score:.2f}", False


if __name__ == "__main__":
    serve(judge)
