package lab

func (n *Net) startRA() {}
