//go:build soak

package chaos

// thorough is for make soak.
const thorough = true
