"""`keyvid-verify`: is a clip what its receipt says?"""
