package main

import "github.com/subflowd/subflowd/internal/reconcile"

func watcherOf(k any) reconcile.Watcher { w, _ := k.(reconcile.Watcher); return w }
