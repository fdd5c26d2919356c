"""
A query that walks
==================

A path of queries over one photograph, or a clip, gives a moving picture: GIF or MP4.
"""

from atmviz.views import draw_moving

(walk,) = draw_moving(None, queries="path:0.2,0.3;0.7,0.3", layers="3_18", fps=8, width="column", dpi=100)
(moving,) = walk.save("walk.gif")
frames = walk.numbers["frames"]
