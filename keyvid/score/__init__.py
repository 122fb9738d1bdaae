"""Do things happen in a clip when they are heard? Scores videos whose events are known.

From the frames alone: `motion` sees when something strikes, `agreement` compares that with the
events, `results` scores a set of clips, `folder` those of a folder. Needs scipy, see `[score]`.
"""
