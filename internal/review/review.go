// Package review is what a reviewer sees of recordings: which there are, what
// they showed, where a text was on the screen, and copies in other formats.
package review
